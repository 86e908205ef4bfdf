// The threads of the block that runs, and what they wait for.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "block.h"
#include "fiber.h"
#include "poison.h"

namespace emu {

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
};
extern Block &block;

// A thread's last act: those who wait for it wait no more.
void leave();

// Who waits where, one line for each place of each warp.
std::string who_waits();

}  // namespace emu
