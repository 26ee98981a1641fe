//! Operations, found by method and path.

use serde_json::Value;

/// One call that a service documents.
#[derive(Debug)]
pub(crate) struct Operation {
    method: String,
    /// Templates such as `/lists/{list_id}`, in parts.
    paths: Vec<Vec<String>>,
    /// What else is said of it.
    pub facts: Value,
}

impl Operation {
    pub(crate) fn new<'p>(
        method: &str,
        paths: impl IntoIterator<Item = &'p str>,
        facts: Value,
    ) -> Self {
        let parts = |path: &str| path.split('/').map(str::to_owned).collect();
        Self {
            method: method.to_owned(),
            paths: paths.into_iter().map(parts).collect(),
            facts,
        }
    }

    /// How many parts of a template that stands for the path are written out; `None`: none does.
    fn fits(&self, method: &str, path: &[&str]) -> Option<usize> {
        if self.method != method {
            return None;
        }
        let is_open = |part: &str| part.starts_with('{');
        let fits = |template: &&Vec<String>| {
            let mut pairs = template.iter().zip(path);
            template.len() == path.len()
                && pairs.all(|(part, given)| part == given || (is_open(part) && !given.is_empty()))
        };
        let written =
            |template: &Vec<String>| template.iter().filter(|part| !is_open(part)).count();
        self.paths.iter().filter(fits).map(written).max()
    }
}

/// The operation that says most of the path literally.
pub(crate) fn find<'o>(
    operations: &'o [Operation],
    method: &str,
    path: &str,
) -> Result<&'o Operation, String> {
    let parts: Vec<&str> = path.split('/').collect();
    let fitting = operations
        .iter()
        .filter_map(|operation| Some((operation.fits(method, &parts)?, operation)));
    let best = fitting.max_by_key(|(written, _)| *written);
    let (_, operation) = best.ok_or("there is no such call")?;
    Ok(operation)
}
