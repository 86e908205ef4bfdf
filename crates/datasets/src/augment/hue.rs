//! Turning the hue through an 8-bit HSV image, as Pillow and torchvision do.

use super::planes::Planes;

/// Turns every hue by `turns` full turns, rounded towards zero to 1/255.
pub(super) fn turn(planes: &mut Planes, turns: f32) {
    let shift = (turns * 255.0) as i32 as u8; // negative shifts wrap around
    let [red, green, blue] = planes.channels();
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let [h, s, v] = to_hsv([*r, *g, *b]);
        [*r, *g, *b] = to_rgb([h.wrapping_add(shift), s, v]);
    }
}

/// Hue, saturation and value, all in 0..=255; results are truncated.
#[inline]
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let most = r.max(g).max(b);
    let least = r.min(g).min(b);
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let [rc, gc, bc] = [r, g, b].map(|v| f32::from(most - v) / range);
    let sixths = if r == most {
        bc - gc
    } else if g == most {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    let hue = sixths / 6.0 + if sixths < 0.0 { 1.0 } else { 0.0 };
    [(hue * 255.0) as i32 as u8, (range / f32::from(most) * 255.0) as i32 as u8, most]
}

/// Back to red, green and blue; results are rounded.
#[inline]
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixths = f32::from(h) * 6.0 / 255.0;
    let sector = sixths as i32;
    let within = sixths - sector as f32;
    let saturation = f32::from(s) / 255.0;
    let level = |drop: f32| (f32::from(v) * (1.0 - drop) + 0.5) as i32 as u8;
    let p = level(saturation);
    let q = level(saturation * within);
    let t = level(saturation * (1.0 - within));
    match sector {
        0 | 6 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_colours_and_greys() {
        assert_eq!(to_hsv([255, 0, 0]), [0, 255, 255]);
        assert_eq!(to_hsv([0, 255, 0]), [85, 255, 255]);
        assert_eq!(to_hsv([0, 0, 255]), [170, 255, 255]);
        assert_eq!(to_hsv([9, 9, 9]), [0, 0, 9]);
        for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7], [0, 0, 0]] {
            assert_eq!(to_rgb(to_hsv(colour)), colour);
        }
    }

    #[test]
    fn a_third_of_a_turn_moves_red_to_green_and_back() {
        let mut planes = Planes::split(&[200, 0, 0], 1, false);
        turn(&mut planes, 1.0 / 3.0 + 1e-4);
        assert_eq!(planes.values(), [0, 200, 0]);
        turn(&mut planes, -1.0 / 3.0 - 1e-4);
        assert_eq!(planes.values(), [200, 0, 0]);
    }

    #[test]
    fn the_round_trip_stays_close() {
        for seed in 0..4096u32 {
            let colour = [seed * 7, seed * 31, seed * 113].map(|v| (v % 256) as u8);
            let back = to_rgb(to_hsv(colour));
            for (a, b) in colour.iter().zip(back) {
                // Hue and saturation are truncated to 255 steps: 6 * 255 / 255 + 1 + rounding.
                assert!(a.abs_diff(b) <= 8, "{colour:?} {back:?}");
            }
        }
    }
}
