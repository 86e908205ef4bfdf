#include <cstdio>

#include "threads.h"

namespace emu {
namespace {

std::string lanes(unsigned mask) {
    if (mask == 0xffffffffu) return "all lanes";
    std::string text = "lanes";
    for (unsigned from = 0; from < WARP; from++) {
        if (!(mask >> from & 1)) continue;
        unsigned to = from;
        while (to + 1 < WARP && mask >> (to + 1) & 1) to++;
        text += (text.size() > 5 ? ", " : " ") + std::to_string(from);
        if (to > from) text += "-" + std::to_string(to);
        from = to;
    }
    return text;
}

}  // namespace

std::string who_waits() {
    std::string text;
    for (std::size_t w = 0; w < block.warps.size(); w++) {
        unsigned told = 0;
        for (unsigned l = 0; l < WARP && w * WARP + l < block.threads.size(); l++) {
            if (told >> l & 1) continue;
            Thread &first = block.threads[w * WARP + l];
            unsigned same = 0;
            for (unsigned k = l; k < WARP && w * WARP + k < block.threads.size(); k++) {
                Thread &t = block.threads[w * WARP + k];
                if (t.state == first.state &&
                    (t.state == Thread::DONE || (t.waits_at == first.waits_at && t.waits_mask == first.waits_mask)))
                    same |= 1u << k;
            }
            told |= same;
            text += "\n  warp " + std::to_string(w) + ": " + lanes(same);
            if (first.state == Thread::DONE) {
                text += " left the kernel";
            } else {
                text += std::string(" wait at ") + first.waits_at;
                if (first.waits_mask) {
                    char mask[32];
                    std::snprintf(mask, sizeof mask, " with mask 0x%08x", first.waits_mask);
                    text += mask;
                }
            }
        }
    }
    return text;
}

}  // namespace emu
