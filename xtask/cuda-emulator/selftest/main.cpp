// Tests of the emulator: that kernels run as on a GPU, and that wrong ones are found. Run by
// `cargo xtask cuda-emulate self-test`.
#include <cuda.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../counters.h"
#include "../include/emulator/small_float.h"

namespace {

int failures;

#define EXPECT(truth)                                                \
    do {                                                             \
        if (!(truth)) {                                              \
            std::printf("FAILED: %s (line %d)\n", #truth, __LINE__); \
            failures++;                                              \
        }                                                            \
    } while (0)

// What ptxas would read of kernels.cu: only the heads matter to the emulator.
const char PTX[] = R"(.version 9.0
.target sm_80
.address_size 64
.visible .entry block_sum(
	.param .u64 block_sum_param_0,
	.param .u64 .ptr .align 1 block_sum_param_1,
	.param .u32 block_sum_param_2
)
{
	.shared .align 4 .b8 _ZZ9block_sumE5parts[32];
	ret;
}
.visible .entry early_exits(.param .u64 a)
{
	ret;
}
.visible .entry shuffles(.param .u64 a)
{
	ret;
}
.visible .entry poison(.param .u64 a, .param .u64 b, .param .u32 c)
{
	.shared .align 4 .b8 tile[32];
	.shared .align 4 .f32 other;
	ret;
}
.visible .entry too_much_shared(.param .u32 a)
{
	ret;
}
.visible .entry beyond_an_array(.param .u32 a)
{
	ret;
}
.visible .entry out_of_bounds(.param .u64 a, .param .u32 b)
{
	ret;
}
.visible .entry no_memory(.param .u64 a)
{
	ret;
}
.visible .entry diverged_barrier(.param .u64 a)
{
	ret;
}
.visible .entry own_lane_missing(.param .u64 a)
{
	ret;
}
.visible .entry failed_assertion()
{
	ret;
}
.visible .entry race(.param .u64 a)
{
	ret;
}
.visible .entry indices(.param .u64 a)
{
	ret;
}
.visible .entry bounded(
	.param .f64 a,
	.param .u8 b,
	.param .align 16 .b8 c[16],
	.param .u64 d
)
.maxntid 64
{
	ret;
}
.visible .entry named_barriers(.param .u64 a)
{
	ret;
}
.visible .entry not_compiled()
{
	ret;
}
)";

CUmodule module;

CUfunction function(const char *name) {
    CUfunction f = nullptr;
    EXPECT(cuModuleGetFunction(&f, module, name) == CUDA_SUCCESS);
    return f;
}

template <class... Args>
CUresult launch(const char *name, unsigned blocks, unsigned threads, unsigned shared, Args... args) {
    void *params[] = {&args..., nullptr};
    return cuLaunchKernel(function(name), blocks, 1, 1, threads, 1, 1, shared, nullptr, params, nullptr);
}

template <class T>
struct Device {
    CUdeviceptr pointer = 0;
    std::size_t count;

    explicit Device(std::vector<T> values) : count(values.size()) {
        EXPECT(cuMemAlloc(&pointer, count * sizeof(T)) == CUDA_SUCCESS);
        EXPECT(cuMemcpyHtoD(pointer, values.data(), count * sizeof(T)) == CUDA_SUCCESS);
    }
    explicit Device(std::size_t count) : count(count) {
        EXPECT(cuMemAlloc(&pointer, count * sizeof(T)) == CUDA_SUCCESS);
    }
    ~Device() { EXPECT(cuMemFree(pointer) == CUDA_SUCCESS); }
    std::vector<T> get() const {
        std::vector<T> values(count);
        EXPECT(cuMemcpyDtoH(values.data(), pointer, count * sizeof(T)) == CUDA_SUCCESS);
        return values;
    }
};

// What the work writes to the standard error output before it aborts; empty if it does not abort.
template <class Work>
std::string abort_message(Work work) {
    int ends[2];
    if (pipe(ends)) std::abort();
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        work();
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char part[4096];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(n));
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : text;
}
bool contains(const std::string &text, const char *part) {
    if (text.find(part) != std::string::npos) return true;
    std::printf("not in the message: %s\n%s\n", part, text.c_str());
    return false;
}

void sums() {
    std::vector<float> x(1000);
    for (std::size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i);
    Device<float> in(x), sum(std::vector<float>{0});
    EXPECT(launch("block_sum", 4, 256, 0, in.pointer, sum.pointer, 1000) == CUDA_SUCCESS);
    EXPECT(sum.get()[0] == 499500.0f);
    EXPECT(emu_count_of("block_sum") == 1);
}

void threads_that_leave() {
    Device<int> met(std::vector<int>(96, -1));
    EXPECT(launch("early_exits", 1, 96, 0, met.pointer) == CUDA_SUCCESS);
    std::vector<int> got = met.get();
    for (int i = 0; i < 96; i++) {
        bool left = i % 3 == 0 || i / 32 == 1;
        // Of the first warp 21 threads stay, of the third 22.
        EXPECT(got[static_cast<std::size_t>(i)] == (left ? -1 : 43 + 1000 * (i < 32 ? 21 : 22)));
    }
}

void lanes_exchange() {
    Device<int> out(std::vector<int>(288, -1));
    EXPECT(launch("shuffles", 1, 32, 0, out.pointer) == CUDA_SUCCESS);
    std::vector<int> got = out.get();
    for (int me = 0; me < 32; me++) {
        auto at = [&](int row) { return got[static_cast<std::size_t>(32 * row + me)]; };
        EXPECT(at(0) == 5);
        EXPECT(at(1) == (me < 3 ? me : me - 3));
        EXPECT(at(2) == (me % 8 + 3 > 7 ? me : me + 3));
        EXPECT(at(3) == (me ^ 4));
        EXPECT(static_cast<unsigned>(at(4)) == 0xaaaaaaaa);
        EXPECT(at(5) == 496);
        EXPECT(at(6) == 3);
        EXPECT(at(7) == (me < 16 ? me ^ 8 : me ^ 1));
        EXPECT(at(8) == 2 * (31 - me));
    }
}

void barriers_with_names() {
    Device<int> out(std::size_t{128});
    EXPECT(launch("named_barriers", 1, 128, 0, out.pointer) == CUDA_SUCCESS);
    std::vector<int> got = out.get();
    for (std::size_t i = 0; i < 128; i++) EXPECT(got[i] == (i < 64 ? 64 : 128));
}

void poisoned_memory() {
    Device<float> fixed(std::size_t{6}), dynamic(std::size_t{3});
    for (float f : fixed.get()) EXPECT(std::isnan(f));
    EXPECT(launch("poison", 3, 32, 64, fixed.pointer, dynamic.pointer, 16) == CUDA_SUCCESS);
    for (float f : fixed.get()) EXPECT(std::isnan(f));
    for (float f : dynamic.get()) EXPECT(std::isnan(f));
}

void all_indices() {
    Device<unsigned> out(std::vector<unsigned>(24 * 30, 0));
    void *params[] = {&out.pointer};
    EXPECT(cuLaunchKernel(function("indices"), 2, 3, 4, 5, 3, 2, 0, nullptr, params, nullptr) == CUDA_SUCCESS);
    std::vector<unsigned> got = out.get();
    for (unsigned i = 0; i < got.size(); i++) EXPECT(got[i] == i / 30 * 1000 + i % 30);
}

void launches_are_checked() {
    Device<double> out(std::size_t{1});
    struct alignas(16) {
        float x[4] = {0, 0, 0, 0.5f};
    } four;
    EXPECT(launch("bounded", 1, 64, 0, 1.0, char{2}, four, out.pointer) == CUDA_SUCCESS);
    EXPECT(out.get()[0] == 3.5);
    EXPECT(launch("bounded", 1, 65, 0, 1.0, char{2}, four, out.pointer) == CUDA_ERROR_INVALID_VALUE);
    CUfunction f = function("too_much_shared");
    EXPECT(launch("too_much_shared", 0, 1, 4, 0) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(launch("too_much_shared", 1, 1025, 4, 0) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(launch("too_much_shared", 1, 1, 48 * 1024, 0) == CUDA_SUCCESS);
    EXPECT(launch("too_much_shared", 1, 1, 48 * 1024 + 4, 0) == CUDA_ERROR_INVALID_VALUE);
    auto limit = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    EXPECT(cuFuncSetAttribute(f, limit, 164 * 1024) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuFuncSetAttribute(f, limit, 100 * 1024) == CUDA_SUCCESS);
    EXPECT(launch("too_much_shared", 1, 1, 100 * 1024, 0) == CUDA_SUCCESS);
    void *params[] = {&out.pointer};
    EXPECT(cuLaunchKernel(function("race"), 1, 65536, 1, 1, 1, 1, 0, nullptr, params, nullptr) ==
           CUDA_ERROR_INVALID_VALUE);
    int shared = 0;
    EXPECT(cuFuncGetAttribute(&shared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function("poison")) == CUDA_SUCCESS);
    EXPECT(shared == 36);
    CUfunction missing;
    EXPECT(cuModuleGetFunction(&missing, module, "nobody") == CUDA_ERROR_NOT_FOUND);
    EXPECT(cuModuleGetFunction(&missing, module, "not_compiled") == CUDA_ERROR_NOT_FOUND);
}

void memory_is_checked() {
    CUdeviceptr pointer;
    char bytes[64];
    EXPECT(cuMemAlloc(&pointer, 0) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemAlloc(&pointer, std::size_t{1} << 50) == CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT(cuMemAlloc(&pointer, 60) == CUDA_SUCCESS);
    EXPECT(cuMemcpyHtoD(pointer, bytes, 64) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemcpyDtoH(bytes, pointer + 1, 60) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemsetD8(pointer, 0, 60) == CUDA_SUCCESS);
    EXPECT(cuMemFree(pointer) == CUDA_SUCCESS);
    EXPECT(cuMemFree(pointer) == CUDA_ERROR_INVALID_VALUE);
}

void mistakes_are_found() {
    Device<int> x(std::vector<int>(64, 0));
    std::string text = abort_message([&] { launch("diverged_barrier", 1, 40, 0, x.pointer); });
    EXPECT(contains(text, "diverged_barrier"));
    EXPECT(contains(text, "warp 0: lanes 0-7 wait at __shfl_xor_sync with mask 0xffffffff"));
    EXPECT(contains(text, "warp 0: lanes 8-31 wait at __syncthreads"));
    EXPECT(contains(text, "warp 1: lanes 0-7 wait at __syncthreads"));
    EXPECT(contains(abort_message([&] { launch("own_lane_missing", 1, 32, 0, x.pointer); }),
                    "lane 0 is not in its own mask"));
    EXPECT(contains(abort_message([&] { launch("failed_assertion", 1, 32, 0); }), "threadIdx.x < 3"));
#if defined(__SANITIZE_ADDRESS__)
    const char *outside = "heap-buffer-overflow", *variable = "use-after-poison";
#else
    const char *outside = "outside of", *variable = "outside of the shared variable row";
    EXPECT(contains(abort_message([&] { launch("no_memory", 1, 32, 0, CUdeviceptr{64}); }),
                    "kernel no_memory, block (0, 0, 0)"));
#endif
    EXPECT(contains(abort_message([&] { launch("too_much_shared", 1, 1, 64, 16); }), outside));
    EXPECT(launch("beyond_an_array", 1, 1, 0, 4) == CUDA_SUCCESS);
    for (int at : {-1, 5}) EXPECT(contains(abort_message([&] { launch("beyond_an_array", 1, 1, 0, at); }), variable));
    EXPECT(contains(abort_message([&] {
                        CUdeviceptr pointer;
                        cuMemAlloc(&pointer, 40);
                        launch("out_of_bounds", 1, 1, 0, pointer, 10);
                        cuMemFree(pointer);
                    }),
                    outside));
}

// The order of the threads is that of SELFPATCH_EMULATOR_ORDER, and a race shows that.
void order_is_chosen() {
    auto sum = [](const char *order) {
        int ends[2];
        if (pipe(ends)) std::abort();
        if (fork() == 0) {
            setenv("SELFPATCH_EMULATOR_ORDER", order, 1);
            Device<int> out(std::size_t{64});
            launch("race", 1, 64, 0, out.pointer);
            int first = out.get()[63];
            _exit(write(ends[1], &first, sizeof first) != sizeof first);
        }
        close(ends[1]);
        int result = -2;
        if (read(ends[0], &result, sizeof result) != sizeof result) result = -3;
        wait(nullptr);
        return result;
    };
    // The last thread reads what the first wrote, which comes before it only in the one order.
    EXPECT(sum("forward") == 0);
    EXPECT(sum("reverse") == -1);
}

void small_floats_round() {
    using emu::Bfloat16;
    using emu::Half;
    // Ties go to even.
    EXPECT(Bfloat16::from(1.00390625f) == 0x3f80 && Bfloat16::from(1.01171875f) == 0x3f82);
    EXPECT(Half::from(1.00048828125f) == 0x3c00 && Half::from(1.00146484375f) == 0x3c02);
    EXPECT(Half::from(65519.0f) == 0x7bff && Half::from(65520.0f) == 0x7c00);
    EXPECT(Half::from(0x1p-24f) == 1 && Half::from(0x1p-25f) == 0 && Half::from(0x1.8p-25f) == 1);
    EXPECT(Half::from(NAN) == 0x7fff && Bfloat16::from(-NAN) == 0x7fff);
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        auto b = static_cast<std::uint16_t>(bits);
        if ((bits & 0x7c00) != 0x7c00) EXPECT(Half::from(Half::to(b)) == b);
        if ((bits & 0x7f80) != 0x7f80) EXPECT(Bfloat16::from(Bfloat16::to(b)) == b);
    }
    // Just above a tie in double, on it in float: rounding twice would go wrong.
    EXPECT(emu::Small<Bfloat16>(1.00390625 + 1e-12).bits == 0x3f81);
    EXPECT(emu::Small<Bfloat16>((1 << 30) + (1 << 22) + 1).bits == 0x4e81);
    emu::Small<Half> a(1.0009765625f), c(0x1p-24f);
    EXPECT(__hfma(a, a, c).bits == 0x3c02);
}

}  // namespace

int main() {
    // A test that hangs is a test that fails.
    alarm(120);
    CUcontext context;
    EXPECT(cuInit(0) == CUDA_SUCCESS);
    EXPECT(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    EXPECT(cuModuleLoadData(&module, PTX) == CUDA_ERROR_INVALID_CONTEXT);
    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    EXPECT(cuModuleLoadData(&module, "nonsense") == CUDA_ERROR_INVALID_IMAGE);
    EXPECT(cuModuleLoadData(&module, PTX) == CUDA_SUCCESS);
    order_is_chosen();
    sums();
    threads_that_leave();
    lanes_exchange();
    barriers_with_names();
    poisoned_memory();
    all_indices();
    launches_are_checked();
    memory_is_checked();
    mistakes_are_found();
    small_floats_round();
    std::printf(failures ? "%d checks failed\n" : "the emulator passes its tests\n", failures);
    return failures != 0;
}
