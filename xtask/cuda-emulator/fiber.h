// A stack of its own that work can be left on and come back to. x86-64 with the System V calling convention.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace emu {

class Fiber {
public:
    using Work = void (*)();

    Fiber();
    ~Fiber();
    Fiber(const Fiber &) = delete;

    // Makes the next `resume` begin `work` on an empty stack. `work` must not return, but call `suspend`.
    void prepare(Work work);
    // Runs the fiber until it suspends itself.
    void resume();
    // Gives control back to the caller of `resume`. With `finished` the fiber will be prepared anew or dropped.
    static void suspend(bool finished = false);

private:
    void *stack_;
    void *pointer_;
    void *sanitizer_ = nullptr;
};

// Fibers that wait to be used again.
class Fibers {
public:
    Fiber *take();
    void put(Fiber *fiber) { free_.push_back(fiber); }

private:
    std::vector<std::unique_ptr<Fiber>> all_;
    std::vector<Fiber *> free_;
};

}  // namespace emu
