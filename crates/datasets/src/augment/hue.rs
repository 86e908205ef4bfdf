//! Turning the hue through an 8-bit HSV image, as Pillow and torchvision do, bit for bit: each
//! intermediate value has the precision that it has in Pillow's C.

use super::planes::Planes;
use selfpatch_simd::wide;

/// Turns every hue by `turns` full turns, rounded towards zero to 1/255.
pub(super) fn turn(planes: &mut Planes<u8>, turns: f64) {
    let shift = (turns * 255.0) as i32 as u8; // negative shifts wrap around
    let [red, green, blue] = planes.rgb();
    wide!(for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = turned([*r, *g, *b], shift);
    });
}

/// One colour with its hue, of 255 steps, moved by `shift`. Without branches, so that the loop over it
/// becomes vector code.
#[inline(always)]
fn turned([r, g, b]: [u8; 3], shift: u8) -> [u8; 3] {
    let most = r.max(g).max(b);
    let least = r.min(g).min(b);
    let range = f32::from(most - least);
    let grey = most == least;
    let divisor = if grey { 1.0 } else { range };
    let [rc, gc, bc] = [r, g, b].map(|v| f32::from(most - v) / divisor);
    let sixths = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = f64::from(sixths) / 6.0 + 1.0; // between 5/6 and 2
    let hue = (if hue >= 1.0 { hue - 1.0 } else { hue }) as f32;
    let saturation = range / f32::from(most.max(1));
    // SAFETY: both are at least 0 and at most 1, so that 255 times them fits.
    let (hue, saturation) = unsafe {
        let hue = (f64::from(hue) * 255.0).to_int_unchecked::<i32>();
        (if grey { 0 } else { hue }, (f64::from(saturation) * 255.0).to_int_unchecked::<i32>())
    };
    let hue = (hue as u8).wrapping_add(shift);

    // And back.
    let sixths = (f64::from(hue) * 6.0 / 255.0) as f32;
    // SAFETY: between 0 and 6.
    let sector = unsafe { sixths.to_int_unchecked::<i32>() };
    let within = sixths - sector as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let value = f64::from(most);
    // SAFETY: the drops are between 0 and 1, so the levels between 0 and 255.5.
    let level = |drop: f64| unsafe { (value * (1.0 - drop) + 0.5).to_int_unchecked::<i32>() as u8 };
    let p = level(f64::from(saturation));
    let q = level(f64::from(saturation * within));
    let t = level(f64::from(saturation) * (1.0 - f64::from(within)));
    let sector = if sector >= 6 { sector - 6 } else { sector };
    let pick = |v: [i32; 2], low: i32, high: i32| match sector {
        s if s == v[0] || s == v[1] => most,
        s if s == low => t,
        s if s == high => q,
        _ => p,
    };
    [pick([0, 5], 4, 1), pick([1, 2], 0, 3), pick([3, 4], 2, 5)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_colours_and_greys_survive_the_round_trip() {
        for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7], [0, 0, 0]] {
            assert_eq!(turned(colour, 0), colour);
        }
    }

    #[test]
    fn a_third_of_a_turn_moves_red_to_green_and_back() {
        let mut planes = Planes::new(1, vec![200, 0, 0]);
        turn(&mut planes, 1.0 / 3.0 + 1e-4);
        assert_eq!(planes.values(), [0, 200, 0]);
        turn(&mut planes, -1.0 / 3.0 - 1e-4);
        assert_eq!(planes.values(), [200, 0, 0]);
    }

    #[test]
    fn the_round_trip_stays_close() {
        for seed in 0..4096u32 {
            let colour = [seed * 7, seed * 31, seed * 113].map(|v| (v % 256) as u8);
            let back = turned(colour, 0);
            for (a, b) in colour.iter().zip(back) {
                // Hue and saturation are truncated to 255 steps: 6 * 255 / 255 + 1 + rounding.
                assert!(a.abs_diff(b) <= 8, "{colour:?} {back:?}");
            }
        }
    }
}
