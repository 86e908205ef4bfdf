// Barriers and warp collectives: when threads wait, and when they go on.
#include <algorithm>
#include <cstring>

#include "order.h"
#include "threads.h"

namespace emu {
namespace {

void make_ready(std::vector<Thread *> threads) {
    auto earlier = [](Thread *a, Thread *b) { return a->rank < b->rank; };
    if (!std::is_sorted(threads.begin(), threads.end(), earlier)) std::sort(threads.begin(), threads.end(), earlier);
    arrange(threads);
    for (Thread *t : threads) {
        t->state = Thread::READY;
        block.ready.push_back(t);
    }
}

void wait(const char *name, unsigned mask) {
    Thread *self = block.current;
    self->waits_at = name;
    self->waits_mask = mask;
    Fiber::suspend();
}

// Lets the threads of a barrier go on if all have come.
void try_release(Barrier &barrier) {
    unsigned wanted = barrier.count ? barrier.count : block.alive;
    if (barrier.waiting.empty() || barrier.waiting.size() < wanted) return;
    Votes votes{barrier.yes, static_cast<unsigned>(barrier.waiting.size())};
    for (Thread *t : barrier.waiting) t->votes = votes;
    std::vector<Thread *> threads;
    threads.swap(barrier.waiting);
    barrier.yes = 0;
    make_ready(std::move(threads));
}

// Completes the collectives of a warp that wait for nobody any more.
void try_complete(unsigned warp_number) {
    Warp &warp = block.warps[warp_number];
    for (std::size_t i = 0; i < warp.gatherings.size();) {
        if (warp.gatherings[i].mask & warp.alive & ~warp.gatherings[i].arrived) {
            i++;
            continue;
        }
        Gathering done = warp.gatherings[i];
        warp.gatherings.erase(warp.gatherings.begin() + static_cast<std::ptrdiff_t>(i));
        done.combine(done.context, done.slots, done.arrived);
        std::vector<Thread *> threads;
        for (unsigned l = 0; l < WARP; l++) {
            if (done.arrived >> l & 1) threads.push_back(&block.threads[warp_number * WARP + l]);
        }
        make_ready(std::move(threads));
    }
}

}  // namespace

void leave() {
    Thread *self = block.current;
    self->state = Thread::DONE;
    block.alive--;
    unsigned number = self->rank / WARP;
    block.warps[number].alive &= ~(1u << self->rank % WARP);
    try_complete(number);
    for (Barrier &barrier : block.barriers) try_release(barrier);
}

Votes barrier(const char *name, unsigned id, unsigned count, bool vote) {
    if (id >= BARRIERS) fail("%s: there is no barrier %u", name, id);
    if (count % WARP) fail("%s: a barrier of %u threads is not one of whole warps", name, count);
    Thread *self = block.current;
    Barrier &barrier = block.barriers[id];
    if (!barrier.waiting.empty() && barrier.count != count) {
        fail("%s: others wait at barrier %u for %u threads, this one for %u", name, id, barrier.count, count);
    }
    barrier.count = count;
    barrier.yes += vote;
    barrier.waiting.push_back(self);
    self->state = Thread::WAITING;
    try_release(barrier);
    wait(name, 0);
    return self->votes;
}

void collective(const char *name, unsigned mask, const void *in, void *out, Combine combine, void *context) {
    Thread *self = block.current;
    unsigned number = self->rank / WARP, me = self->rank % WARP;
    if (!(mask >> me & 1)) fail("%s: lane %u is not in its own mask 0x%08x", name, me, mask);
    Warp &warp = block.warps[number];
    auto same = [&](const Gathering &g) { return g.mask == mask && !std::strcmp(g.name, name); };
    auto found = std::find_if(warp.gatherings.begin(), warp.gatherings.end(), same);
    if (found == warp.gatherings.end()) {
        warp.gatherings.push_back({name, mask, 0, combine, context, {}});
        found = warp.gatherings.end() - 1;
    }
    found->arrived |= 1u << me;
    found->slots[me] = {in, out};
    self->state = Thread::WAITING;
    try_complete(number);
    wait(name, mask);
}

}  // namespace emu
