//! The Python names that a weight file may refer to, and their meaning here.

use candle_core::DType;

/// The element type of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    /// The storage class or dtype in PyTorch, for messages.
    pub class: &'static str,
    /// The dtype of candle, if there is one.
    pub dtype: Option<DType>,
}

/// The meaning of a Python name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Global {
    /// Rebuilds a tensor from a storage.
    Tensor,
    /// Wraps a tensor; the tensor is its first argument.
    Parameter,
    /// Makes a dict.
    Dict,
    /// Rebuilds a tensor of quantised integers from a storage.
    Quantised,
    /// Rebuilds a tensor that is not one block of numbers; the kind of tensor.
    Unread(&'static str),
    /// Rebuilds a tensor with attributes: its arguments include another function and that function's arguments.
    WithAttributes,
    /// A storage class.
    Storage(Element),
    /// A dtype of `torch` without a storage class.
    Dtype(Element),
    /// A harmless name that is not needed here.
    Opaque,
}

/// Storage classes of `torch`, with the dtype for those that candle knows.
const STORAGES: [(&str, Option<DType>); 19] = [
    ("FloatStorage", Some(DType::F32)),
    ("DoubleStorage", Some(DType::F64)),
    ("HalfStorage", Some(DType::F16)),
    ("BFloat16Storage", Some(DType::BF16)),
    ("LongStorage", Some(DType::I64)),
    ("IntStorage", Some(DType::I32)),
    ("ShortStorage", Some(DType::I16)),
    ("ByteStorage", Some(DType::U8)),
    ("CharStorage", None),
    ("BoolStorage", None),
    ("ComplexFloatStorage", None),
    ("ComplexDoubleStorage", None),
    ("QInt8Storage", None),
    ("QInt32Storage", None),
    ("QUInt8Storage", None),
    ("QUInt2x4Storage", None),
    ("QUInt4x2Storage", None),
    ("UntypedStorage", None),
    ("TypedStorage", None),
];

/// Dtypes of `torch` without a storage class; their tensors are in untyped storages.
const DTYPES: [&str; 17] = [
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
    "uint16",
    "uint32",
    "uint64",
    "qint8",
    "quint8",
    "qint32",
    "quint4x2",
    "quint2x4",
    "int4",
    "uint4",
    "complex32",
];

/// Plain containers and numbers, under both of their Python names.
const BUILTINS: &[&str] =
    &["set", "frozenset", "list", "dict", "int", "float", "complex", "slice", "bytes", "bytearray"];

/// Names that occur in training checkpoints beside the weights: run arguments, scalars, dtypes.
const OPAQUE: [(&str, &[&str]); 14] = [
    ("argparse", &["Namespace"]),
    ("collections", &["Counter"]),
    ("_codecs", &["encode"]),
    ("builtins", BUILTINS),
    ("__builtin__", BUILTINS),
    ("numpy", &["dtype", "ndarray", "float32", "float64"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("pathlib", &["PosixPath", "PurePosixPath", "WindowsPath"]),
    ("pathlib._local", &["PosixPath", "PurePosixPath", "WindowsPath"]),
    (
        "torch",
        &[
            "Size",
            "Tensor",
            "device",
            "float32",
            "float64",
            "float16",
            "bfloat16",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "bool",
            "complex64",
            "complex128",
            "per_tensor_affine",
            "per_tensor_symmetric",
            "per_channel_affine",
            "per_channel_affine_float_qparams",
            "per_channel_symmetric",
            "strided",
        ],
    ),
    ("torch.nn.parameter", &["Parameter", "Buffer"]),
    ("torch.serialization", &["_get_layout"]),
    ("datetime", &["date", "datetime", "timedelta"]),
];

/// The meaning of `module.name`, or `None` if it is not on the list.
pub(crate) fn lookup(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
            return Some(Global::Tensor);
        }
        ("torch._utils", "_rebuild_qtensor") => return Some(Global::Quantised),
        ("torch._utils", "_rebuild_sparse_tensor") => return Some(Global::Unread("sparse tensor")),
        ("torch._utils", "_rebuild_nested_tensor") => return Some(Global::Unread("nested tensor")),
        ("torch._utils", "_rebuild_meta_tensor_no_storage") => return Some(Global::Unread("meta tensor")),
        ("torch._tensor", "_rebuild_from_type_v2") => return Some(Global::WithAttributes),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            return Some(Global::Parameter);
        }
        ("collections", "OrderedDict" | "defaultdict") => return Some(Global::Dict),
        _ => {}
    }
    if matches!(module, "torch" | "torch.cuda" | "torch.storage")
        && let Some(&(class, dtype)) = STORAGES.iter().find(|(class, _)| *class == name)
    {
        return Some(Global::Storage(Element { class, dtype }));
    }
    if module == "torch"
        && let Some(&class) = DTYPES.iter().find(|class| **class == name)
    {
        return Some(Global::Dtype(Element { class, dtype: None }));
    }
    OPAQUE.iter().any(|(known, names)| *known == module && names.contains(&name)).then_some(Global::Opaque)
}
