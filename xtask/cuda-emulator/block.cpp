#include "block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>

#include "crash.h"
#include "fiber.h"
#include "poison.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace emu {

unsigned long block_serial;

namespace {

constexpr unsigned BARRIERS = 16;

struct Thread {
    enum State { NEW, READY, WAITING, DONE } state = NEW;
    unsigned rank = 0;
    uint3 index{};
    Fiber *fiber = nullptr;
    // What it waits for, for messages.
    const char *waits_at = nullptr;
    unsigned waits_mask = 0;
    Votes votes{};
};

struct Barrier {
    std::vector<Thread *> waiting;
    unsigned count = 0;
    unsigned yes = 0;
};

// A warp collective that lanes are arriving at.
struct Gathering {
    const char *name;
    unsigned mask, arrived;
    Combine combine;
    void *context;
    Slot slots[WARP];
};

struct Warp {
    unsigned alive = 0;
    std::vector<Gathering> gatherings;
};

// The block that runs. Its parts are kept from block to block, and never destroyed: threads of the program may still
// launch kernels while the process ends.
struct Block {
    const Launch *launch = nullptr;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::deque<Thread *> ready;
    Barrier barriers[BARRIERS];
    unsigned alive = 0;
    Thread *current = nullptr;
    Fibers fibers;
    SharedMemory shared;
} &block = *new Block;

enum class Order { FORWARD, REVERSE, RANDOM };

// SELFPATCH_EMULATOR_ORDER: threads between two barriers, and blocks, may run in any order on a GPU. Another order
// shows what depends on it.
Order order() {
    static const Order chosen = [] {
        const char *text = std::getenv("SELFPATCH_EMULATOR_ORDER");
        std::string name = text ? text : "forward";
        if (name == "forward") return Order::FORWARD;
        if (name == "reverse") return Order::REVERSE;
        if (name == "random") return Order::RANDOM;
        std::fprintf(stderr, "SELFPATCH_EMULATOR_ORDER is %s; it must be forward, reverse or random\n", text);
        std::exit(2);
    }();
    return chosen;
}

template <class T>
void arrange(std::vector<T> &items) {
    static std::mt19937 random(1);
    if (order() == Order::REVERSE) std::reverse(items.begin(), items.end());
    if (order() == Order::RANDOM) std::shuffle(items.begin(), items.end(), random);
}

void make_ready(std::vector<Thread *> threads) {
    std::sort(threads.begin(), threads.end(), [](Thread *a, Thread *b) { return a->rank < b->rank; });
    arrange(threads);
    for (Thread *t : threads) {
        t->state = Thread::READY;
        block.ready.push_back(t);
    }
}

void set_current(Thread *thread) {
    block.current = thread;
    threadIdx = thread->index;
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

void leave() {
    Thread *self = block.current;
    self->state = Thread::DONE;
    block.alive--;
    unsigned number = self->rank / WARP;
    block.warps[number].alive &= ~(1u << self->rank % WARP);
    try_complete(number);
    for (Barrier &barrier : block.barriers) try_release(barrier);
}

// What a fiber does: one thread of the block after the other, until a thread that has begun elsewhere is next.
void work() {
    for (;;) {
        block.launch->thunk(block.launch->params);
        leave();
        if (block.ready.empty() || block.ready.front()->state != Thread::NEW) {
            Fiber::suspend(true);
            std::abort();
        }
        Thread *next = block.ready.front();
        block.ready.pop_front();
        std::swap(next->fiber, block.current->fiber);
        next->state = Thread::READY;
        set_current(next);
    }
}

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

// Who waits where, one line for each place of each warp.
std::string waiting() {
    std::string text;
    for (std::size_t w = 0; w < block.warps.size(); w++) {
        unsigned told = 0;
        for (unsigned l = 0; l < WARP && w * WARP + l < block.threads.size(); l++) {
            if (told >> l & 1) continue;
            Thread &first = block.threads[w * WARP + l];
            unsigned same = 0;
            for (unsigned k = l; k < WARP && w * WARP + k < block.threads.size(); k++) {
                Thread &t = block.threads[w * WARP + k];
                if (t.state == first.state && (t.state == Thread::DONE || (t.waits_at == first.waits_at && t.waits_mask == first.waits_mask)))
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

void run_block() {
    block_serial++;
    block.shared.prepare(block.launch->shared_bytes);
    unsigned count = blockDim.x * blockDim.y * blockDim.z;
    block.alive = count;
    block.threads.assign(count, Thread{});
    block.warps.assign((count + WARP - 1) / WARP, Warp{});
    std::vector<Thread *> all;
    for (unsigned r = 0; r < count; r++) {
        Thread &t = block.threads[r];
        t.rank = r;
        t.index = {r % blockDim.x, r / blockDim.x % blockDim.y, r / blockDim.x / blockDim.y};
        block.warps[r / WARP].alive |= 1u << r % WARP;
        all.push_back(&t);
    }
    arrange(all);
    block.ready.assign(all.begin(), all.end());
    while (block.alive) {
        if (block.ready.empty()) fail("threads wait for each other:%s", waiting().c_str());
        Thread *thread = block.ready.front();
        block.ready.pop_front();
        set_current(thread);
        if (thread->state == Thread::NEW) {
            thread->fiber = block.fibers.take();
            thread->fiber->prepare(work);
            thread->state = Thread::READY;
        }
        thread->fiber->resume();
        // The fiber may have gone on to another thread by now.
        if (block.current->state == Thread::DONE) {
            block.fibers.put(block.current->fiber);
            block.current->fiber = nullptr;
        }
    }
    block.shared.check();
}

}  // namespace

void run(const Launch &launch) {
    CrashReports reports;
    block.launch = &launch;
    gridDim = launch.grid;
    blockDim = launch.block;
    unsigned long blocks = static_cast<unsigned long>(gridDim.x) * gridDim.y * gridDim.z;
    std::vector<unsigned long> numbers;
    if (order() != Order::FORWARD) {
        for (unsigned long i = 0; i < blocks; i++) numbers.push_back(i);
        arrange(numbers);
    }
    for (unsigned long i = 0; i < blocks; i++) {
        unsigned long n = numbers.empty() ? i : numbers[i];
        blockIdx = {static_cast<unsigned>(n % gridDim.x), static_cast<unsigned>(n / gridDim.x % gridDim.y),
                    static_cast<unsigned>(n / gridDim.x / gridDim.y)};
        run_block();
    }
    block.launch = nullptr;
    block.current = nullptr;
}

const char *whereabouts() {
    static char text[512];
    text[0] = 0;
    if (block.launch) {
        std::snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread (%u, %u, %u) of (%u, %u, %u): ",
                      block.launch->name, blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, threadIdx.x,
                      threadIdx.y, threadIdx.z, blockDim.x, blockDim.y, blockDim.z);
    }
    return text;
}

void fail(const char *format, ...) {
    std::fprintf(stderr, "\nCUDA emulator: %s", whereabouts());
    va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::abort();
}

unsigned rank() { return block.current->rank; }
unsigned lane() { return block.current->rank % WARP; }
void *dynamic_shared() { return block.shared.data(); }

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
