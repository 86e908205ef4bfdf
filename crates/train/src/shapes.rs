//! Which settings decide the names and shapes of what a checkpoint holds.

/// Fields of `model` and `head` that decide no names and shapes of a checkpoint.
const FREE: [&str; 2] = ["model.drop_path_rate", "head.norm_last_layer"];

/// Fields outside `model` and `head` that decide names and shapes of a checkpoint.
const FIXING: [&str; 3] = ["data.channels", "objective.kind", "patch_loss.aggregation_depth"];

/// Whether no checkpoint made with the value `from` of the field at `place` can be continued with `to`, both as TOML.
pub(crate) fn fixes(place: &str, from: &str, to: &str) -> bool {
    // Without patch loss there is no patch head.
    let is_zero = |value: &str| value.parse() == Ok(0.);
    match place {
        "patch_loss.lambda" => is_zero(from) != is_zero(to),
        _ if FREE.contains(&place) => false,
        _ => place.starts_with("model.") || place.starts_with("head.") || FIXING.contains(&place),
    }
}

#[cfg(test)]
mod tests {
    use super::fixes;

    #[test]
    fn shapes_are_told_from_numbers() {
        for place in ["model.arch", "model.patch_size", "head.out_dim", "head.use_bn_in_head", "data.channels"] {
            assert!(fixes(place, "1", "2"), "{place}");
        }
        for place in ["model.drop_path_rate", "head.norm_last_layer", "optim.lr", "crops.locals.size", "data.path"] {
            assert!(!fixes(place, "1", "2"), "{place}");
        }
        assert!(fixes("patch_loss.lambda", "0.0", "0.1") && fixes("patch_loss.lambda", "0.1", "0"));
        assert!(!fixes("patch_loss.lambda", "0.1", "0.2"));
    }
}
