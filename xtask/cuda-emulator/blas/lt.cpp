// libcublasLt: one product with what may be fused behind it.
#include <cublasLt.h>

#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "../counters.h"
#include "gemm.h"

using namespace emu;

namespace {

// Descriptions are attributes by number, as they were set.
struct Attributes {
    std::map<int, std::vector<char>> values;

    template <class T>
    T get(int attribute, T otherwise) const {
        auto found = values.find(attribute);
        if (found == values.end() || found->second.size() < sizeof(T)) return otherwise;
        T value;
        std::memcpy(&value, found->second.data(), sizeof value);
        return value;
    }
    cublasStatus_t set(int attribute, const void *data, std::size_t bytes) {
        if (!data) return CUBLAS_STATUS_INVALID_VALUE;
        auto *from = static_cast<const char *>(data);
        values[attribute] = {from, from + bytes};
        return CUBLAS_STATUS_SUCCESS;
    }
};
struct Description : Attributes {
    cublasComputeType_t compute;
    cudaDataType scale;
};
struct Layout : Attributes {
    cudaDataType type;
    std::uint64_t rows, columns;
    std::int64_t leading;

    int batch() const { return get<int>(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1); }
    Matrix matrix(const void *data, int number, bool transposed) const {
        std::int64_t stride = get<std::int64_t>(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 0);
        bool by_rows = get<int>(CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_COL) == CUBLASLT_ORDER_ROW;
        return Matrix::columns(data, type, leading, transposed != by_rows).offset(number * stride);
    }
};
struct Preference : Attributes {};

template <class T, class Handle>
T *body(Handle handle) {
    return reinterpret_cast<T *>(handle);
}

constexpr double ROOT = 0.7978845608028654;  // sqrt(2 / pi)
double gelu(double x) { return 0.5 * x * (1 + std::tanh(ROOT * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) {
    double t = std::tanh(ROOT * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 3 * 0.044715 * x * x);
}

bool known(int epilogue) {
    switch (epilogue) {
        case CUBLASLT_EPILOGUE_DEFAULT:
        case CUBLASLT_EPILOGUE_RELU:
        case CUBLASLT_EPILOGUE_BIAS:
        case CUBLASLT_EPILOGUE_RELU_BIAS:
        case CUBLASLT_EPILOGUE_GELU:
        case CUBLASLT_EPILOGUE_GELU_BIAS:
        case CUBLASLT_EPILOGUE_GELU_AUX:
        case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
        case CUBLASLT_EPILOGUE_DGELU:
        case CUBLASLT_EPILOGUE_DGELU_BGRAD:
        case CUBLASLT_EPILOGUE_BGRADA:
        case CUBLASLT_EPILOGUE_BGRADB: return true;
        default: return false;
    }
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = reinterpret_cast<cublasLtHandle_t>(new char);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete reinterpret_cast<char *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale) {
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(new Description{{}, compute, scale});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) {
    delete body<Description>(handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute,
                                              const void *data, size_t bytes) {
    return body<Description>(handle)->set(attribute, data, bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{{}, type, rows, columns, leading});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
    delete body<Layout>(handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *data,
                                                size_t bytes) {
    return body<Layout>(handle)->set(attribute, data, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
    delete body<Preference>(handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *data,
                                                    size_t bytes) {
    return body<Preference>(handle)->set(attribute, data, bytes);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found) {
    *found = 0;
    int epilogue = body<Description>(operation)->get<int>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (!known(epilogue)) return CUBLAS_STATUS_NOT_SUPPORTED;
    std::memset(&results[0], 0, sizeof results[0]);
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha, const void *a_data,
                              cublasLtMatrixLayout_t a_layout, const void *b_data, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c_data, cublasLtMatrixLayout_t c_layout, void *d_data,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *, void *, size_t,
                              cudaStream_t) {
    emu_count_library_call("cublasLtMatmul");
    const auto &description = *body<Description>(operation);
    const auto &a = *body<Layout>(a_layout), &b = *body<Layout>(b_layout), &c = *body<Layout>(c_layout),
               &d = *body<Layout>(d_layout);
    for (cudaDataType type : {a.type, b.type, c.type, d.type, description.scale}) {
        if (!bytes_of(type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    bool ta = description.get<int>(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) != CUBLAS_OP_N;
    bool tb = description.get<int>(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) != CUBLAS_OP_N;
    auto m = static_cast<std::int64_t>(d.rows), n = static_cast<std::int64_t>(d.columns);
    auto k = static_cast<std::int64_t>(ta ? a.rows : a.columns);
    bool fit = static_cast<std::int64_t>(ta ? a.columns : a.rows) == m &&
               static_cast<std::int64_t>(tb ? b.columns : b.rows) == k &&
               static_cast<std::int64_t>(tb ? b.rows : b.columns) == n && c.rows == d.rows && c.columns == d.columns;
    if (!fit || a.batch() != d.batch() || b.batch() != d.batch()) return CUBLAS_STATUS_INVALID_VALUE;
    int epilogue = description.get<int>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    if (!known(epilogue)) return CUBLAS_STATUS_NOT_SUPPORTED;
    bool relu = epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
    bool adds_bias = epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS ||
                     epilogue == CUBLASLT_EPILOGUE_GELU_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    bool aux_out = epilogue == CUBLASLT_EPILOGUE_GELU_AUX || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    bool is_gelu = aux_out || epilogue == CUBLASLT_EPILOGUE_GELU || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
    bool slope = epilogue == CUBLASLT_EPILOGUE_DGELU || epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD;
    void *bias_data = description.get<void *>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
    void *aux_data = description.get<void *>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
    bool bias_gradient = epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD || epilogue == CUBLASLT_EPILOGUE_BGRADA ||
                         epilogue == CUBLASLT_EPILOGUE_BGRADB;
    if (((adds_bias || bias_gradient) && !bias_data) || ((aux_out || slope) && !aux_data))
        return CUBLAS_STATUS_INVALID_VALUE;
    auto bias_type = static_cast<cudaDataType>(description.get<int>(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, d.type));
    auto bias_stride = description.get<std::int64_t>(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, 0);
    auto aux_type =
        static_cast<cudaDataType>(description.get<int>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, d.type));
    auto aux_leading = description.get<std::int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, m);
    auto aux_stride = description.get<std::int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, 0);

    for (int batch = 0; batch < d.batch(); batch++) {
        Matrix bias = Matrix{bias_data, bias_type, 1, 0}.offset(bias_data ? batch * bias_stride : 0);
        Matrix aux = Matrix::columns(aux_data, aux_type, aux_leading, false).offset(aux_data ? batch * aux_stride : 0);
        Matrix ma = a.matrix(a_data, batch, ta), mb = b.matrix(b_data, batch, tb);
        std::vector<double> row_sums(epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD ? static_cast<std::size_t>(m) : 0);
        auto finish = [&](std::int64_t i, std::int64_t j, double value) {
            if (adds_bias) value += bias.get(i, 0);
            if (aux_out) aux.set(i, j, value);
            if (relu) value = value > 0 ? value : 0;
            if (is_gelu) value = gelu(value);
            if (slope) value *= gelu_slope(aux.get(i, j));
            if (!row_sums.empty()) row_sums[static_cast<std::size_t>(i)] += value;
            return value;
        };
        Product product{"cublasLtMatmul",
                        m,
                        n,
                        k,
                        number(alpha, description.scale),
                        number(beta, description.scale),
                        ma,
                        mb,
                        c.matrix(c_data, batch, false),
                        d.matrix(d_data, batch, false)};
        if (epilogue != CUBLASLT_EPILOGUE_DEFAULT) product.epilogue = finish;
        multiply(product);
        for (std::size_t i = 0; i < row_sums.size(); i++) bias.set(static_cast<std::int64_t>(i), 0, row_sums[i]);
        // The gradient of a bias of the layer whose output is A, or B: sums over what the product sums over.
        for (std::int64_t i = 0; epilogue == CUBLASLT_EPILOGUE_BGRADA && i < m; i++) {
            double sum = 0;
            for (std::int64_t q = 0; q < k; q++) sum += ma.get(i, q);
            bias.set(i, 0, sum);
        }
        for (std::int64_t j = 0; epilogue == CUBLASLT_EPILOGUE_BGRADB && j < n; j++) {
            double sum = 0;
            for (std::int64_t q = 0; q < k; q++) sum += mb.get(q, j);
            bias.set(j, 0, sum);
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}
}
