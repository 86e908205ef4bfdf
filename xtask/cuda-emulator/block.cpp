#include "block.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "crash.h"
#include "order.h"
#include "threads.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace emu {

Block &block = *new Block;
unsigned long block_serial;

namespace {

void set_current(Thread *thread) {
    block.current = thread;
    threadIdx = thread->index;
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
        if (block.ready.empty()) fail("threads wait for each other:%s", who_waits().c_str());
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
        std::snprintf(text, sizeof text,
                      "kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread (%u, %u, %u) of (%u, %u, %u): ",
                      block.launch->name, blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z,
                      threadIdx.x, threadIdx.y, threadIdx.z, blockDim.x, blockDim.y, blockDim.z);
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
void watch_shared(const char *name, unsigned char *before, unsigned char *behind, std::size_t zone) {
    block.shared.watch(name, before, behind, zone);
}

}  // namespace emu
