//! What a restore is going to do to a storage.

use std::collections::HashSet;
use std::io::Read;

use serde::Serialize;

use super::todo::{Action, Todo};
use super::{ExtractOptions, for_each_line};
use crate::bundle::filelist::FileLine;
use crate::bundle::{Opened, PartName};
use crate::ground::progress::{Progress, Unit};
use crate::ground::words::shown;
use crate::ground::{Error, Kind, Result, interrupt};
use crate::sealing::SealingKey;
use crate::storage::{EntryKind, Standing, Target};

/// How many replaced and extra paths are named.
const NAMED: usize = 1000;

/// What a restore is going to do; the run executes this very value.
#[derive(Serialize)]
pub struct ExtractPlan {
    /// Files of the bundle that were asked for.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files that will be written.
    pub write: u64,
    /// Bytes that will be written.
    pub write_bytes: u64,
    /// Files whose content stands there already.
    pub already_right: u64,
    /// Files that will be written where something else stands.
    pub replaced: u64,
    /// Their paths, the first of them.
    pub replaced_paths: Vec<String>,
    /// What stands in the target and not in the bundle, the first of it.
    pub extra: Vec<String>,
    /// How much of it there is.
    pub extra_count: u64,
    /// It is moved away, too.
    pub delete_extra: bool,
    /// A folder of the bundle where nothing stands, and so nothing below it: lines come by path, what is in it soon after it.
    #[serde(skip)]
    nothing_below: Option<Vec<u8>>,
    #[serde(skip)]
    pub(super) todo: Todo,
}

impl ExtractPlan {
    /// The parts that hold what is to be written.
    pub fn parts(&self) -> Result<HashSet<PartName>> {
        Ok(self.todo.parts()?.into_iter().collect())
    }

    /// The first of the extra files, for people, and how many more there are.
    pub fn extra_lines(&self, word: &str) -> Vec<String> {
        first(&self.extra, self.extra_count, word)
    }

    /// The same of the files that are replaced.
    pub fn replaced_lines(&self) -> Vec<String> {
        first(&self.replaced_paths, self.replaced, "replaced")
    }

    fn replace(&mut self, path: &[u8]) {
        self.replaced += 1;
        if self.replaced_paths.len() < NAMED {
            self.replaced_paths.push(shown(path));
        }
    }
}

fn first(paths: &[String], count: u64, word: &str) -> Vec<String> {
    const SHOWN: usize = 10;
    let mut lines: Vec<_> = paths.iter().take(SHOWN).map(|path| format!("    {word}: {path}")).collect();
    if count > SHOWN as u64 {
        lines.push(format!("    … and {} more", count - SHOWN as u64));
    }
    lines
}

/// Compares the bundle's files with what stands in the target; changes nothing.
pub fn plan(
    opened: &Opened<'_>,
    key: &SealingKey,
    target: &dyn Target,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractPlan> {
    if let Some(rollback) = options.rollback_name() {
        target.can_keep(&rollback)?;
    }
    progress.stage("compare with what is there", None, Unit::Items);
    let todo = Todo::new()?;
    let mut plan = ExtractPlan {
        files: 0,
        bytes: 0,
        write: 0,
        write_bytes: 0,
        already_right: 0,
        replaced: 0,
        replaced_paths: Vec::new(),
        extra: Vec::new(),
        extra_count: 0,
        delete_extra: options.delete_extra,
        nothing_below: None,
        todo,
    };
    let mut matched = vec![false; options.include.len()];
    for_each_line(opened, key, &mut |line| {
        interrupt::check()?;
        progress.advance(1);
        plan.todo.list(&line.path)?;
        if !options.wants(&line, &mut matched) {
            return Ok(());
        }
        one(&mut plan, target, &line, options)
    })?;
    if options.include.is_empty() {
        target.walk(&mut |path, kind| {
            // Folders that the bundle does not have stay: empty ones harm nobody.
            if kind != EntryKind::Dir && !plan.todo.lists(path)? {
                plan.extra_count += 1;
                if plan.extra.len() < NAMED {
                    plan.extra.push(shown(path));
                }
                if options.delete_extra {
                    target.can_put_away(path)?;
                    plan.todo.put_away(path)?;
                }
            }
            Ok(())
        })?;
    }
    plan.todo.seal()?;
    if let Some((glob, _)) = options.include.iter().zip(matched).find(|(_, matched)| !matched) {
        let (id, glob) = (&opened.header().id, shown(glob.glob().glob().as_bytes()));
        return Err(Error::not_found(format!("bundle {id} has no file that fits '{glob}'"))
            .hint("A pattern is matched against the whole path: `**/1.0.0.zip`. `strongroom show --files -i FILE` lists them."));
    }
    Ok(plan)
}

fn one(plan: &mut ExtractPlan, target: &dyn Target, line: &FileLine, options: &ExtractOptions) -> Result<()> {
    let below = |folder: &Vec<u8>| line.path.strip_prefix(folder.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
    let standing = match &plan.nothing_below {
        Some(folder) if below(folder) => Standing::Nothing,
        _ => target.standing(&line.path)?,
    };
    let fresh = standing == Standing::Nothing;
    let replace = || if options.rollback && !fresh { target.can_put_away(&line.path) } else { Ok(()) };
    match line.kind {
        EntryKind::Dir => {
            if standing != Standing::Dir {
                replace()?;
            }
            let look = if fresh { None } else { target.look(&line.path)? };
            if fresh && !plan.nothing_below.as_ref().is_some_and(below) {
                plan.nothing_below = Some(line.path.clone());
            }
            plan.todo.stands(Action::Folder, line, look.as_ref(), fresh)
        }
        EntryKind::Symlink => {
            if standing == Standing::Symlink && Some(target.read_link(&line.path)?) == line.target {
                return Ok(());
            }
            replace()?;
            if !fresh {
                plan.replace(&line.path);
            }
            plan.todo.add(Action::Link, line, fresh)
        }
        EntryKind::File => {
            plan.files += 1;
            plan.bytes = plan.bytes.saturating_add(line.size);
            if standing == Standing::File(line.size) && is_right(target, line)? {
                plan.already_right += 1;
                return plan.todo.stands(Action::Dress, line, target.look(&line.path)?.as_ref(), false);
            }
            replace()?;
            plan.write += 1;
            plan.write_bytes = plan.write_bytes.saturating_add(line.size);
            if !fresh {
                plan.replace(&line.path);
            }
            plan.todo.add(Action::Write, line, fresh)
        }
    }
}

/// Whether the file that stands there has the content of the line.
fn is_right(target: &dyn Target, line: &FileLine) -> Result<bool> {
    let mut file = target.read(&line.path)?;
    let mut hash = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut read_all = || -> std::io::Result<()> {
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                read => hash.update(&buffer[..read]),
            };
        }
    };
    read_all().map_err(|e| Error::from_io(Kind::Failed, format!("cannot read {}", shown(&line.path)), e))?;
    Ok(line.blake3.is_some_and(|expected| hash.finalize() == expected))
}
