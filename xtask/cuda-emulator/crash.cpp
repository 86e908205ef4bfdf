#include "crash.h"

#include <cstring>

#include "include/emulator.h"

namespace emu {
namespace {

void report(int signal) {
    // Another crash while reporting ends the process at once.
    ::signal(signal, SIG_DFL);
    fail("crashed by signal %d (%s)", signal, strsignal(signal));
}

}  // namespace

CrashReports::CrashReports() {
#if !defined(__SANITIZE_ADDRESS__)
    struct sigaction action;
    std::memset(&action, 0, sizeof action);
    action.sa_handler = report;
    // On the thread's own stack for signals: that of the fiber may be what is used up.
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &action, &before_[i]);
#endif
}

CrashReports::~CrashReports() {
#if !defined(__SANITIZE_ADDRESS__)
    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &before_[i], nullptr);
#endif
}

}  // namespace emu
