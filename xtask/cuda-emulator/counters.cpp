#include "counters.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace emu {

emu_counters_t counters;

namespace {

using Counts = std::map<std::string, std::uint64_t>;

// Never destroyed: threads of the program may still call the driver while the process ends.
std::recursive_mutex &mutex = *new std::recursive_mutex;
Counts &launches = *new Counts;
Counts &calls = *new Counts;

void write_counts(std::FILE *file, const char *name, const Counts &counts, const char *end) {
    std::fprintf(file, "  \"%s\": {", name);
    const char *separator = "";
    for (const auto &[key, count] : counts) {
        std::fprintf(file, "%s\n    \"%s\": %lu", separator, key.c_str(), count);
        separator = ",";
    }
    std::fprintf(file, "%s}%s\n", counts.empty() ? "" : "\n  ", end);
}

// SELFPATCH_EMULATOR_STATS=FILE, or - for the standard error output: the counters as JSON when the process ends.
struct AtExit {
    ~AtExit() {
        const char *path = std::getenv("SELFPATCH_EMULATOR_STATS");
        if (!path || !*path) return;
        Lock lock;
        bool standard = !std::strcmp(path, "-");
        std::FILE *file = standard ? stderr : std::fopen(path, "w");
        if (!file) {
            std::fprintf(stderr, "SELFPATCH_EMULATOR_STATS: %s cannot be written\n", path);
            return;
        }
        const emu_counters_t &c = counters;
        std::fprintf(file, "{\n");
        std::fprintf(file, "  \"htod\": {\"count\": %lu, \"bytes\": %lu},\n", c.htod, c.htod_bytes);
        std::fprintf(file, "  \"dtoh\": {\"count\": %lu, \"bytes\": %lu},\n", c.dtoh, c.dtoh_bytes);
        std::fprintf(file, "  \"dtod\": {\"count\": %lu, \"bytes\": %lu},\n", c.dtod, c.dtod_bytes);
        std::fprintf(file, "  \"memsets\": %lu,\n  \"synchronizations\": %lu,\n", c.memsets, c.synchronizations);
        std::fprintf(file,
                     "  \"memory\": {\"allocations\": %lu, \"frees\": %lu, \"bytes\": %lu, \"peak_bytes\": %lu},\n",
                     c.allocations, c.frees, c.bytes, c.peak_bytes);
        write_counts(file, "launches", launches, ",");
        write_counts(file, "library_calls", calls, "");
        std::fprintf(file, "}\n");
        if (!standard) std::fclose(file);
    }
} at_exit;

}  // namespace

Lock::Lock() { mutex.lock(); }
Lock::~Lock() { mutex.unlock(); }

void count_launch(const char *name) {
    counters.launches++;
    launches[name]++;
}

}  // namespace emu

using namespace emu;

extern "C" {

void emu_counters(emu_counters_t *out) {
    Lock lock;
    *out = counters;
}

std::uint64_t emu_count_of(const char *name) {
    Lock lock;
    for (const Counts *counts : {&launches, &calls}) {
        if (auto found = counts->find(name); found != counts->end()) return found->second;
    }
    return 0;
}

void emu_count_library_call(const char *name) {
    Lock lock;
    counters.library_calls++;
    calls[name]++;
}
}
