#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

// Saves the registers that a callee must keep, leaves the stack pointer in *from and goes on at `to`.
extern "C" void emu_switch(void **from, void *to);
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");

namespace emu {
namespace {

constexpr std::size_t PAGE = 4096;
constexpr std::size_t STACK = (EMU_ASAN ? 512 : 128) * 1024;

// Of the thread that called `resume`.
void *caller_pointer;
const void *caller_stack;
std::size_t caller_size;
Fiber::Work begin;

void enter() {
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &caller_stack, &caller_size);
#endif
    begin();
    std::abort();
}

Fiber *running;

}  // namespace

Fiber::Fiber() {
    stack_ = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack_ == MAP_FAILED) std::abort();
    // A kernel that needs more stack than there is stops here instead of writing elsewhere.
    mprotect(stack_, PAGE, PROT_NONE);
}

Fiber::~Fiber() { munmap(stack_, STACK + PAGE); }

void Fiber::prepare(Work work) {
    begin = work;
#if EMU_ASAN
    __asan_unpoison_memory_region(static_cast<char *>(stack_) + PAGE, STACK);
#endif
    auto *top = reinterpret_cast<void **>(static_cast<char *>(stack_) + PAGE + STACK);
    // After `ret` the stack pointer must be 8 below a multiple of 16, as after a call.
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(&enter);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    pointer_ = top;
    sanitizer_ = nullptr;
}

void Fiber::resume() {
    running = this;
#if EMU_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(&fake, static_cast<char *>(stack_) + PAGE, STACK);
#endif
    emu_switch(&caller_pointer, pointer_);
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void Fiber::suspend([[maybe_unused]] bool finished) {
    Fiber *self = running;
#if EMU_ASAN
    __sanitizer_start_switch_fiber(finished ? nullptr : &self->sanitizer_, caller_stack, caller_size);
#endif
    emu_switch(&self->pointer_, caller_pointer);
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(self->sanitizer_, &caller_stack, &caller_size);
#endif
}

Fiber *Fibers::take() {
    if (free_.empty()) {
        all_.push_back(std::make_unique<Fiber>());
        return all_.back().get();
    }
    Fiber *fiber = free_.back();
    free_.pop_back();
    return fiber;
}

}  // namespace emu
