#include "errors.h"

namespace {

struct Error {
    CUresult code;
    const char *name, *text;
};
#define ERROR(code, text) {code, #code, text}
constexpr Error ERRORS[] = {
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(CUDA_ERROR_STUB_LIBRARY, "the CUDA emulator does not know this function"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
};
#undef ERROR

const Error *find(CUresult code) {
    for (const Error &error : ERRORS) {
        if (error.code == code) return &error;
    }
    return nullptr;
}

}  // namespace

const char *emu::error_name(CUresult error) {
    const Error *found = find(error);
    return found ? found->name : nullptr;
}
const char *emu::error_text(CUresult error) {
    const Error *found = find(error);
    return found ? found->text : nullptr;
}
