// SELFPATCH_EMULATOR_ORDER: threads between two barriers, and blocks, may run in any order on a GPU. Another order
// shows what depends on it.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

namespace emu {

enum class Order { FORWARD, REVERSE, RANDOM };

Order order();

// Puts things into the order that was chosen.
template <class T>
void arrange(std::vector<T> &items) {
    static std::mt19937 random(1);
    if (order() == Order::REVERSE) std::reverse(items.begin(), items.end());
    if (order() == Order::RANDOM) std::shuffle(items.begin(), items.end(), random);
}

}  // namespace emu
