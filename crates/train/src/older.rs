//! Names that settings had in older versions.

use toml::{Table, Value};

/// Fields and tables that were renamed: the place then, and now.
const RENAMED: [(&str, &str); 2] = [("image_loss", "objective"), ("data.exif_orientation", "data.exif")];

/// Kind of the objective in settings without `kind`, from when there was no other.
const KIND: &str = "dino";

/// The present place of a field or table that older versions had at `place`; `place` itself where nothing was renamed.
pub(crate) fn place_now(place: &str) -> String {
    let renamed = RENAMED.iter().find_map(|(then, now)| {
        let rest = place.strip_prefix(then)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{now}{rest}"))
    });
    renamed.unwrap_or_else(|| place.into())
}

/// Moves all fields to their present places. Returns what was renamed, for a note to the user.
///
/// # Errors
/// When a table has a field at both places.
pub(crate) fn renew(table: &mut Table) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for (then, now) in RENAMED {
        let Some(value) = taken(table, then) else { continue };
        let (then, now) = match value {
            Value::Table(_) => (format!("[{then}]"), format!("[{now}]")),
            _ => (then.to_string(), now.to_string()),
        };
        let Some((parent, key)) = place(table, now.trim_matches(['[', ']'])) else { continue };
        if parent.contains_key(key) {
            return Err(format!("has both {then} and {now}, its present name; leave {then} out"));
        }
        let value = match value {
            Value::Table(mut objective) if key == "objective" => {
                objective.insert("kind".into(), KIND.into());
                Value::Table(objective)
            }
            value => value,
        };
        parent.insert(key.into(), value);
        told.push(format!("{then} is now {now}"));
    }
    Ok(told)
}

/// Removes what stands at `from`.
fn taken(table: &mut Table, from: &str) -> Option<Value> {
    let (parent, key) = place(table, from)?;
    parent.remove(key)
}

/// The table that holds the field at `at`, and the name of the field in it.
fn place<'a, 'b>(table: &'a mut Table, at: &'b str) -> Option<(&'a mut Table, &'b str)> {
    match at.split_once('.') {
        None => Some((table, at)),
        Some((first, rest)) => place(table.get_mut(first)?.as_table_mut()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_move_to_their_present_places() -> Result<(), Box<dyn std::error::Error>> {
        let mut table: Table = "[image_loss]\nteacher_temp = 0.05\n[data]\nexif_orientation = true".parse()?;
        let told = renew(&mut table)?;
        assert_eq!(told, ["[image_loss] is now [objective]", "data.exif_orientation is now data.exif"]);
        let now: Table = "[objective]\nkind = \"dino\"\nteacher_temp = 0.05\n[data]\nexif = true".parse()?;
        assert_eq!(table, now);
        assert!(renew(&mut table)?.is_empty() && table == now);
        let mut both: Table = "[image_loss]\n[objective]\nkind = \"dino\"".parse()?;
        assert_eq!(
            renew(&mut both),
            Err("has both [image_loss] and [objective], its present name; leave [image_loss] out".into())
        );
        for (then, now) in [
            ("image_loss", "objective"),
            ("image_loss.teacher_temp", "objective.teacher_temp"),
            ("data.exif_orientation", "data.exif"),
            ("image_losses", "image_losses"),
            ("optim.lr", "optim.lr"),
        ] {
            assert_eq!(place_now(then), now);
        }
        Ok(())
    }
}
