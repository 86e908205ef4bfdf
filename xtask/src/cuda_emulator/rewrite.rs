//! Shared memory has no counterpart in C++: its declarations are rewritten. Everything else of CUDA is macros, types
//! and functions of `xtask/cuda-emulator/include`.

/// The source with every declaration of shared memory rewritten; lines stay where they are.
pub fn rewrite(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = find_word(rest, "__shared__") {
        let (before, after) = (&rest[..at], &rest[at + "__shared__".len()..]);
        // A statement: up to the semicolon. Without one, or in a comment, it stays as it is.
        let comment = before.rsplit('\n').next().is_some_and(|line| line.contains("//"));
        let Some(end) = after.find(';').filter(|_| !comment) else {
            out.push_str(&rest[..at + "__shared__".len()]);
            rest = after;
            continue;
        };
        let dynamic = before.trim_end().ends_with("extern");
        let keep = if dynamic { before.trim_end().len() - "extern".len() } else { before.len() };
        // `static` before it says nothing more.
        let plain = before[..keep].trim_end();
        let keep = plain.strip_suffix("static").map_or(keep, str::len);
        out.push_str(&before[..keep]);
        out.push_str(&if dynamic { dynamic_shared(&after[..end]) } else { static_shared(&after[..end]) });
        rest = &after[end + 1..];
    }
    out + rest
}

/// `float tile[]` becomes a pointer to what the launch asked for.
fn dynamic_shared(declaration: &str) -> String {
    let declaration = without_alignment(declaration);
    let text = declaration.trim().trim_end_matches(|c: char| c == ']' || c == '[' || c.is_whitespace());
    let name = text.rsplit(|c: char| !is_part(c)).next().unwrap_or_default();
    let kind = text[..text.len() - name.len()].trim();
    format!("{kind} *{name} = static_cast<{kind} *>(emu::dynamic_shared());")
}

/// `float a[4], b` becomes two types, two variables of them with zones around that nobody may touch, and references.
fn static_shared(declaration: &str) -> String {
    let declaration = without_alignment(declaration);
    let (mut types, mut variables) = (Vec::new(), String::new());
    for declarator in split(declaration.trim()) {
        let head = declarator.split('[').next().unwrap_or_default().trim_end();
        let name = head.rsplit(|c: char| !is_part(c)).next().unwrap_or_default();
        types.push(format!("{head}_shared_type{}", &declarator[head.len()..]));
        variables += &format!(
            " static emu::Shared<{name}_shared_type> {name}_shared; \
             {name}_shared_type &{name} = {name}_shared.enter(\"{name}\");"
        );
    }
    format!("typedef {};{variables}", types.join(","))
}

/// The parts between commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' | ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The text without `__align__(16)` and `alignas(16)`.
fn without_alignment(text: &str) -> String {
    let mut text = text.to_string();
    for word in ["__align__", "alignas"] {
        while let Some(at) = find_word(&text, word) {
            let Some(close) = text[at..].find(')') else { break };
            text.replace_range(at..=at + close, "");
        }
    }
    text
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn dynamic_shared_memory_becomes_a_pointer() {
        let pointer =
            |kind: &str, name: &str| format!("{kind} *{name} = static_cast<{kind} *>(emu::dynamic_shared());");
        assert_eq!(rewrite("extern __shared__ int row[];"), pointer("int", "row"));
        let aligned = "  extern __shared__ __align__(16) unsigned char bytes [ ] ;\n";
        assert_eq!(rewrite(aligned), format!("  {}\n", pointer("unsigned char", "bytes")));
    }

    #[test]
    fn static_shared_memory_gets_zones_around_it() {
        let variable = |name: &str| {
            format!(
                " static emu::Shared<{name}_shared_type> {name}_shared; \
                 {name}_shared_type &{name} = {name}_shared.enter(\"{name}\");"
            )
        };
        let one = format!("typedef float a_shared_type[N * 2];{}", variable("a"));
        assert_eq!(rewrite("__shared__ float a[N * 2];"), one);
        let two = rewrite("{ static __shared__ alignas(16) T<A, B> x[4][5], last; }");
        let types = "typedef T<A, B> x_shared_type[4][5], last_shared_type;";
        assert_eq!(two, format!("{{ {types}{}{} }}", variable("x"), variable("last")));
    }

    #[test]
    fn other_text_stays() {
        for text in ["// a __shared__ tile;\nint x;", "int my__shared__x;", "no shared memory"] {
            assert_eq!(rewrite(text), text);
        }
    }
}
