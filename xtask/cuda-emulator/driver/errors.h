// Names and texts of the errors that the emulator gives.
#pragma once

#include <cuda.h>

namespace emu {

// Null for others.
const char *error_name(CUresult error);
const char *error_text(CUresult error);

}  // namespace emu
