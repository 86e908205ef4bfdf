#include "ptx.h"

#include <cstdlib>
#include <regex>

namespace emu {
namespace {

unsigned bytes_of(const std::string &type) {
    // .u64, .f32, .b8, .pred ...
    std::size_t digit = type.find_first_of("0123456789");
    return digit == std::string::npos ? 1 : static_cast<unsigned>(std::atoi(type.c_str() + digit)) / 8;
}

// `.param .align 8 .b8 name[24]` or `.param .u64 name`, and the same with .shared.
struct Variable {
    std::string name;
    unsigned bytes;
};
std::vector<Variable> variables(const std::string &text, const char *space) {
    std::regex form(std::string(R"(\.)") + space + R"((?:\s+\.(?:ptr|align)(?:\s+\d+)?|\s+\.(?:global|shared))*\s+\.(\w+)\s+([\w$]+)((?:\[\d*\])*))");
    std::vector<Variable> all;
    for (std::sregex_iterator at(text.begin(), text.end(), form), end; at != end; ++at) {
        unsigned bytes = bytes_of((*at)[1]);
        std::string dimensions = (*at)[3];
        for (std::size_t i = dimensions.find('['); i != std::string::npos; i = dimensions.find('[', i + 1)) {
            bytes *= static_cast<unsigned>(std::atoi(dimensions.c_str() + i + 1));
        }
        all.push_back({(*at)[2], bytes});
    }
    return all;
}

bool mentions(const std::string &body, const std::string &name) {
    auto part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$'; };
    for (std::size_t at = body.find(name); at != std::string::npos; at = body.find(name, at + 1)) {
        bool starts = at == 0 || !part(body[at - 1]);
        if (starts && !part(body[at + name.size()])) return true;
    }
    return false;
}

}  // namespace

Ptx parse_ptx(const std::string &text) {
    Ptx ptx;
    std::size_t target = text.find(".target sm_");
    if (target == std::string::npos) return ptx;
    ptx.target = static_cast<unsigned>(std::atoi(text.c_str() + target + 11));

    // Line by line outside of bodies, so that the large bodies meet no regular expression.
    std::string shared_declarations;
    std::vector<std::pair<std::string, std::string>> bodies;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t end = text.find('\n', at);
        if (end == std::string::npos) end = text.size();
        std::string line = text.substr(at, end - at);
        std::size_t entry = line.find(".entry ");
        if (line.compare(0, 2, "//") && entry != std::string::npos) {
            std::size_t open = text.find('{', at), close = text.find("\n}", at);
            if (open == std::string::npos || close == std::string::npos) break;
            std::string head = text.substr(at, open - at), name = line.substr(entry + 7);
            name = name.substr(0, name.find_first_of("( \t\r"));
            Entry &made = ptx.entries[name];
            for (const Variable &p : variables(head, "param")) made.parameters.push_back(p.bytes);
            std::size_t limit = head.find(".maxntid");
            if (limit != std::string::npos) {
                unsigned x = 1, y = 1, z = 1;
                std::sscanf(head.c_str() + limit, ".maxntid %u, %u, %u", &x, &y, &z);
                made.max_threads = x * y * z;
            }
            bodies.push_back({name, text.substr(open, close - open)});
            at = close + 2;
            continue;
        }
        if (line.find(".shared") != std::string::npos && line.find(".extern") == std::string::npos) {
            shared_declarations += line + "\n";
        }
        at = end + 1;
    }
    auto shared = variables(shared_declarations, "shared");
    for (const auto &[name, body] : bodies) {
        for (const Variable &v : shared) {
            if (mentions(body, v.name)) ptx.entries[name].shared_bytes += v.bytes;
        }
        // Declared in the body itself, line by line as above.
        std::string own;
        for (std::size_t at = body.find(".shared .align"); at != std::string::npos; at = body.find(".shared .align", at + 1)) {
            own += body.substr(at, body.find('\n', at) - at) + "\n";
        }
        for (const Variable &v : variables(own, "shared")) ptx.entries[name].shared_bytes += v.bytes;
    }
    return ptx;
}

}  // namespace emu
