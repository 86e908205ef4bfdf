//! Loops compiled for the widest registers of the CPU, chosen at run time.

/// Evaluates an expression compiled for AVX-512 or AVX2 if the CPU has it. Functions that the expression calls must
/// be `#[inline(always)]`, or they are compiled for the baseline. The results are the same either way: wider
/// registers do not change the order of any sum, and no multiply-add is fused.
#[macro_export]
macro_rules! wide {
    ($e:expr) => {
        $crate::widest(
            #[inline(always)]
            || $e,
        )
    };
}

/// The function behind [`wide!`](wide): runs `f` compiled for AVX-512 or AVX2 if the CPU has it.
#[inline(always)]
pub fn widest<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if has_avx512() {
            // SAFETY: the CPU has the features that the function is compiled for.
            return unsafe { avx512(f) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(f) };
        }
    }
    f()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Whether the CPU has multiply-adds on wide registers, so that [`fused`] may be called with code that
/// uses `mul_add`.
#[inline(always)]
pub fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

/// Runs `f` compiled for the widest registers with multiply-adds; without them, `mul_add` in it is slow. Results
/// differ from those of a separate product and sum by the rounding in between.
#[inline(always)]
pub fn fused<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if has_avx512() && has_fused() {
            // SAFETY: the CPU has the features that the function is compiled for.
            return unsafe { avx512(f) };
        }
        if has_fused() {
            // SAFETY: as above.
            return unsafe { avx2(f) };
        }
    }
    f()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_value_is_that_of_the_expression() {
        let (a, b): (Vec<f32>, Vec<f32>) = (0..1000).map(|i| (i as f32 * 0.37, 1.0 / (1 + i) as f32)).unzip();
        let mut plain = [0f32; 8];
        a.chunks(8).zip(b.chunks(8)).for_each(|(a, b)| (0..8).for_each(|i| plain[i] += a[i] * b[i]));
        let mut fast = [0f32; 8];
        wide!(a.chunks(8).zip(b.chunks(8)).for_each(
            #[inline(always)]
            |(a, b)| (0..8).for_each(|i| fast[i] += a[i] * b[i])
        ));
        assert_eq!(fast, plain);
    }
}
