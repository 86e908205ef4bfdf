// Says which kernel and thread it was when a kernel touches memory that is not there.
#pragma once

#include <signal.h>

namespace emu {

// While it lives, crashes are reported so; the address sanitizer does it better by itself.
class CrashReports {
public:
    CrashReports();
    ~CrashReports();
    CrashReports(const CrashReports &) = delete;

private:
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before_[4];
};

}  // namespace emu
