#include "kernels.h"

#include <dlfcn.h>

#include <filesystem>
#include <map>

namespace emu {
namespace {

std::map<std::string, Kernel> &kernels() {
    static auto &all = *new std::map<std::string, Kernel>;
    return all;
}

}  // namespace

void load_kernels() {
    Dl_info here;
    if (!dladdr(reinterpret_cast<void *>(&load_kernels), &here)) fail("the emulator does not find itself");
    auto folder = std::filesystem::path(here.dli_fname).parent_path() / "kernels";
    std::error_code missing;
    for (const auto &entry : std::filesystem::directory_iterator(folder, missing)) {
        if (entry.path().extension() != ".so") continue;
        if (!dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL)) fail("%s", dlerror());
    }
}

void register_kernel(const char *name, Thunk thunk, const char *file, const unsigned *sizes, std::size_t count) {
    auto [place, added] = kernels().insert({name, {name, thunk, file, {sizes, sizes + count}}});
    if (!added) fail("both %s and %s have a kernel %s", place->second.file, file, name);
}

const Kernel *find_kernel(const std::string &name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

}  // namespace emu
