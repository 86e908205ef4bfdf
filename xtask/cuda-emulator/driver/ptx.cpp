#include "ptx.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace emu {
namespace {

// `.align 8 .b8 name[24]` or `.u64 .ptr .global .align 16 name`: what follows .param or .shared.
struct Variable {
    std::string name;
    unsigned bytes = 0;
};
Variable variable(const std::string &declaration) {
    Variable made;
    std::istringstream words(declaration);
    for (std::string word; words >> word;) {
        bool type = word.size() > 2 && word[0] == '.' && std::strchr("usbf", word[1]) &&
                    std::isdigit(static_cast<unsigned char>(word[2]));
        if (type) made.bytes = static_cast<unsigned>(std::atoi(word.c_str() + 2)) / 8;
        made.name = word;
    }
    std::size_t bracket = made.name.find('[');
    for (std::size_t i = bracket; i != std::string::npos; i = made.name.find('[', i + 1)) {
        made.bytes *= static_cast<unsigned>(std::atoi(made.name.c_str() + i + 1));
    }
    made.name = made.name.substr(0, bracket);
    return made;
}
// Declarations after each mention of the keyword.
std::vector<Variable> variables(const std::string &text, const std::string &keyword) {
    std::vector<Variable> all;
    for (std::size_t at = text.find(keyword); at != std::string::npos; at = text.find(keyword, at + 1)) {
        std::size_t begin = at + keyword.size(), end = text.find_first_of(",);\n", begin);
        all.push_back(variable(text.substr(begin, end - begin)));
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
            for (const Variable &p : variables(head, ".param ")) made.parameters.push_back(p.bytes);
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
    auto shared = variables(shared_declarations, ".shared ");
    for (const auto &[name, body] : bodies) {
        for (const Variable &v : shared) {
            if (mentions(body, v.name)) ptx.entries[name].shared_bytes += v.bytes;
        }
        // Declared in the body itself; instructions have it in the middle of a word.
        for (const Variable &v : variables(body, "\t.shared ")) ptx.entries[name].shared_bytes += v.bytes;
    }
    return ptx;
}

}  // namespace emu
