#include "order.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace emu {

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

}  // namespace emu
