//! Makes a set of policies out of texts: every file run once, every error of every file told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rhai::{AST, Dynamic, Engine, FnPtr, ParseErrorType, Position, Scope};
use sha2::{Digest, Sha256};

use crate::names::{PoolName, RuleId};
use crate::window::{MetricSlot, WindowPlan};

use super::body::BodySignal;
use super::draft::{Draft, DraftCondition, DraftKind, Loading};
use super::error::{PolicyError, explain, missing_function};
use super::host::Host;
use super::program::Program;
use super::scan::{place, scan};
use super::tree::Truth;
use super::{
    Interrupt, Rule, RuleKind, Signal, SourceFile, body, host, operators, profile, run, vocabulary,
};

/// Characters of a hash where a person reads it.
const SHORT_HASH: usize = 12;

/// What a load comes to.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) rules: Vec<Rule>,
    /// Where each rule is; of two on one line the first.
    pub(super) places: BTreeMap<RuleId, usize>,
    pub(super) parts: Vec<Parts>,
    pub(super) signals: Vec<Signal>,
    pub(super) plan: WindowPlan,
    pub(super) hash: String,
    /// Its first characters, enough to tell the policies of one fleet apart.
    pub(super) short_hash: Arc<str>,
    pub(super) scripts: Option<Scripts>,
}

/// The engine that runs closures, and what its functions share.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) engine: Engine,
    pub(super) host: Arc<Host>,
}

/// What belongs to a rule and is nobody else's.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) file: String,
    pub(super) asked: Asked,
    pub(super) body: Option<Script>,
    pub(super) ladder: Vec<crate::decision::Rung>,
    /// Where the rule, its condition, hold and cooldown stand.
    pub(super) at: Position,
    pub(super) asked_at: Position,
    pub(super) cooldown_at: Position,
    /// The condition as a tree, for the findings.
    pub(super) tree: Option<Arc<Truth>>,
}

/// The condition of a rule.
#[derive(Debug)]
pub(super) enum Asked {
    /// An alert rule has none.
    Always,
    Native(Program),
    Closure(Script),
}

/// A closure of a policy file.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) ast: Arc<AST>,
    pub(super) name: String,
    pub(super) captured: Vec<Dynamic>,
    pub(super) reads: Arc<[BodySignal]>,
    pub(super) at: Position,
}

pub(super) fn load(
    files: &[SourceFile],
    interrupt: &Interrupt,
) -> Result<Loaded, Vec<PolicyError>> {
    let Scripts { engine, host } =
        scripts().map_err(|message| vec![PolicyError::at("", Position::NONE, message)])?;
    let mut load = Load {
        known: known_functions(&engine),
        engine,
        host: Arc::clone(&host),
        errors: Vec::new(),
        loaded: Loaded::default(),
    };
    {
        let mut state = host.state();
        state.loading = Some(Loading::default());
        state.interrupt = Some(interrupt.clone());
    }
    for file in files {
        load.file(file);
    }
    let gathered = {
        let mut state = host.state();
        state.interrupt = None;
        state.loading.take().unwrap_or_default()
    };
    if !load.errors.is_empty() {
        return Err(load.errors);
    }
    let mut loaded = load.loaded;
    loaded.signals = gathered.signals;
    loaded.plan = gathered.plan;
    loaded.hash = hash(files);
    loaded.short_hash = loaded
        .hash
        .chars()
        .take(SHORT_HASH)
        .collect::<String>()
        .into();
    loaded.scripts = Some(Scripts {
        engine: load.engine,
        host,
    });
    Ok(loaded)
}

/// An engine with the limits and the whole host API.
pub(super) fn scripts() -> Result<Scripts, String> {
    let host = Arc::new(Host::default());
    let mut engine = profile::engine(&host);
    host::register(&mut engine, &host);
    body::register(&mut engine, &host);
    operators::register(&mut engine, &host)?;
    Ok(Scripts { engine, host })
}

/// Names of Rhai's own functions.
fn known_functions(engine: &Engine) -> BTreeSet<String> {
    let signatures = engine.gen_fn_signatures(true);
    let names = signatures.iter().filter_map(|signature| {
        let (name, _) = signature.split_once('(')?;
        let name = name.rsplit([' ', ':']).next()?;
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        is_name.then(|| name.to_owned())
    });
    names.collect()
}

/// SHA-256 over names and texts; their lengths keep two sets of files apart that join alike.
fn hash(files: &[SourceFile]) -> String {
    let mut hasher = Sha256::new();
    for part in files.iter().flat_map(|file| [&file.name, &file.text]) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut hex = String::new();
    for byte in hasher.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

struct Load {
    engine: Engine,
    host: Arc<Host>,
    known: BTreeSet<String>,
    errors: Vec<PolicyError>,
    loaded: Loaded,
}

impl Load {
    fn file(&mut self, file: &SourceFile) {
        let scan = scan(&file.text, &self.known);
        let mut errors = scan.errors;
        if file.text.len() > super::scan::MAX_FILE_BYTES {
            self.report(file, errors);
            return;
        }
        self.with(Loading::next_file);
        let ast = match self.engine.compile(&file.text) {
            Ok(ast) => ast,
            Err(error) => {
                errors.push(if *error.err_type() == ParseErrorType::TooManyFunctions {
                    (error.position(), self.too_many_functions(&file.text))
                } else {
                    explain(&error.into())
                });
                self.report(file, errors);
                return;
            }
        };
        let ran = self.engine.run_ast_with_scope(&mut Scope::new(), &ast);
        if let Err(error) = &ran {
            // A function that there is not was told where it is written, with what may be meant.
            let missing = missing_function(error);
            if missing.is_none_or(|name| !scan.unknown.contains(name)) {
                errors.push(explain(error));
            }
        }
        for (stat, metric, window) in &scan.reads {
            self.with(|loading| {
                let signal = Signal::Window {
                    metric: MetricSlot(0),
                    name: Arc::clone(metric),
                    stat: *stat,
                    window: *window,
                };
                if loading.intern(signal).is_none() {
                    loading.error(Position::NONE, "too many signals or metrics");
                }
            });
        }
        let reads = self.reads(&scan.reads);
        let functions = Arc::new(ast.clone_functions_only());
        let (mut drafts, told) = self.with(|loading| {
            for at in loading.unused() {
                loading.error(
                    at,
                    "no rule uses this: hand it to `.when(...)` or delete it; `if`, `switch`, \
                     `&&` and `||` cannot look into a condition",
                );
            }
            loading.tell_too_many();
            let mut drafts = std::mem::take(&mut loading.rules);
            if let (Err(_), Some(last)) = (&ran, drafts.last_mut()) {
                last.cut = true;
            }
            (drafts, std::mem::take(&mut loading.errors))
        });
        // What a broken file made and did not use would only repeat its errors.
        let broken = !errors.is_empty();
        errors.extend(
            told.into_iter()
                .filter(|(_, message)| !(broken && message.starts_with("no rule uses this"))),
        );
        drafts.sort_by_key(|draft| (draft.at.line(), draft.at.position()));
        let before = self.loaded.rules.len();
        for draft in drafts {
            let built = Builder {
                file,
                ast: &functions,
                reads: &reads,
                errors: &mut errors,
            };
            if let Some((mut rule, parts)) = built.build(draft) {
                self.name(&mut rule, before);
                let place = self.loaded.rules.len();
                self.loaded.places.entry(rule.id.clone()).or_insert(place);
                self.loaded.rules.push(rule);
                self.loaded.parts.push(parts);
            }
        }
        self.report(file, errors);
    }

    /// What is said of a file with more functions than may be; it is read, and not run, once
    /// more to count them.
    fn too_many_functions(&mut self, text: &str) -> String {
        const MOST: usize = profile::MAX_FUNCTIONS;
        self.engine.set_max_functions(usize::MAX);
        let counted = self.engine.compile(text);
        self.engine.set_max_functions(MOST);
        let count = counted.map_or_else(
            |_| format!("more than {MOST}"),
            |ast| ast.iter_functions().count().to_string(),
        );
        format!(
            "the file has {count} closures and functions, and at most {MOST} may be: write the \
             rules of several pools once, in a loop (`for name in [\"a\", \"b\"] {{ ... }}`), \
             let bodies share a `fn`, or split the file"
        )
    }

    /// A second rule on one line, as a loop makes them, has a number behind the line.
    fn name(&self, rule: &mut Rule, before: usize) {
        let rules = self.loaded.rules.get(before..).unwrap_or_default();
        let line = rule.id.as_str().to_owned();
        let mut count = 1;
        while rules.iter().any(|other| other.id == rule.id) {
            count += 1;
            rule.id = RuleId::new(format!("{line}#{count}"));
        }
    }

    /// The signals that closures of a file read: those found in its text, and every statistic
    /// of the windows that it asked to watch.
    fn reads(&self, found: &[(crate::window::Stat, Arc<str>, Duration)]) -> Arc<[BodySignal]> {
        let mut wanted = found.to_vec();
        let mut reads: Vec<BodySignal> = Vec::new();
        self.with(|loading| {
            for (metric, window) in &loading.watched {
                let stats = vocabulary::STATS.iter();
                wanted.extend(stats.map(|(_, stat)| (*stat, Arc::clone(metric), *window)));
            }
            for (stat, metric, window) in wanted {
                let signal = Signal::Window {
                    metric: MetricSlot(0),
                    name: Arc::clone(&metric),
                    stat,
                    window,
                };
                let Some(index) = loading.intern(signal) else {
                    loading.error(Position::NONE, "too many signals or metrics");
                    continue;
                };
                let read = BodySignal {
                    index,
                    stat,
                    metric,
                    window,
                };
                if !reads.contains(&read) {
                    reads.push(read);
                }
            }
        });
        Arc::from(reads)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Loading) -> T) -> T {
        act(self.host.state().loading.get_or_insert_default())
    }

    fn report(&mut self, file: &SourceFile, mut errors: Vec<(Position, String)>) {
        errors.sort_by_key(|(at, _)| (at.line(), at.position()));
        errors.dedup();
        let told = errors
            .into_iter()
            .map(|(at, message)| PolicyError::at(&file.name, at, message));
        self.errors.extend(told);
    }
}

/// Completes the rules of one file.
struct Builder<'a> {
    file: &'a SourceFile,
    ast: &'a Arc<AST>,
    reads: &'a Arc<[BodySignal]>,
    errors: &'a mut Vec<(Position, String)>,
}

impl Builder<'_> {
    fn build(mut self, draft: Draft) -> Option<(Rule, Parts)> {
        let at = draft.at;
        // The run ended within it: what it lacks is no mistake of its own.
        if !draft.cut {
            self.check_whole(&draft);
        }
        let ladder = draft.ladder.map(|(ladder, _)| ladder).unwrap_or_default();
        let kind = match draft.kind {
            DraftKind::ScaleUp => RuleKind::ScaleUp(PoolName::new(&draft.of)),
            DraftKind::ScaleDown => RuleKind::ScaleDown(PoolName::new(&draft.of)),
            DraftKind::Heal => RuleKind::Heal {
                pool: PoolName::new(&draft.of),
                ladder: ladder.clone(),
            },
            DraftKind::OnAlert => RuleKind::OnAlert(draft.of.clone()),
        };
        let asked_at = draft.condition.as_ref().map_or(at, |(_, at)| *at);
        let mut tree = None;
        let asked = match draft.condition {
            None => Asked::Always,
            Some((DraftCondition::Tree(truth), _)) => {
                let program = Program::new(&truth);
                tree = Some(truth);
                Asked::Native(program)
            }
            Some((DraftCondition::Closure(closure), at)) => {
                Asked::Closure(self.script(closure, at, "when")?)
            }
        };
        let body = match draft.body {
            None => None,
            Some((closure, at)) => Some(self.script(closure, at, "then")?),
        };
        let rule = Rule {
            id: RuleId::new(format!("{}:{}", self.file.name, at.line().unwrap_or(0))),
            kind,
            hold: draft.hold.map_or(Duration::ZERO, |(hold, _)| hold),
            cooldown: draft.cooldown.map_or(Duration::ZERO, |(length, _)| length),
            native: !matches!(asked, Asked::Closure(_)),
        };
        let parts = Parts {
            file: self.file.name.clone(),
            asked,
            body,
            ladder,
            at,
            asked_at,
            cooldown_at: draft.cooldown.map_or(at, |(_, at)| at),
            tree,
        };
        Some((rule, parts))
    }

    fn check_whole(&mut self, draft: &Draft) {
        let missing = match draft.kind {
            DraftKind::OnAlert if draft.body.is_none() => {
                "`on_alert` needs a body: `.then(|alert| node(alert.label(\"node\")).replace(\
                 alert.summary))`"
            }
            DraftKind::OnAlert => return,
            _ if draft.condition.is_none() => "the rule has no condition: add `.when(...)`",
            DraftKind::Heal if draft.ladder.is_none() && draft.body.is_none() => {
                "`heal` needs a ladder: `.ladder([\"reboot\", \"rebuild\", \"replace\"])`"
            }
            _ => return,
        };
        self.errors.push((draft.at, missing.to_owned()));
    }

    /// The closure as it is called later; an error unless it takes just its subject.
    fn script(&mut self, closure: FnPtr, at: Position, of: &str) -> Option<Script> {
        let name = closure.fn_name().to_owned();
        let Some(captured) = run::unshared(closure.curry()) else {
            self.errors.push((at, run::CAPTURED_TOO_MUCH.to_owned()));
            return None;
        };
        let mut defined = self.ast.iter_functions().filter(|own| own.name == name);
        let fits = defined.any(|own| own.params.len() == captured.len() + 1);
        if !fits {
            self.errors.push((
                at,
                format!(
                    "`.{of}` takes a closure or a `fn` of this file with one parameter, as in \
                     `.{of}(|pool| ...)`"
                ),
            ));
            return None;
        }
        Some(Script {
            ast: Arc::clone(self.ast),
            name,
            captured,
            reads: Arc::clone(self.reads),
            at,
        })
    }
}

/// The place of an error in a file, if it is known, and else `of`.
pub(super) fn or_else(at: Position, of: Position) -> Position {
    if at.is_none() {
        return of;
    }
    place(at.line().unwrap_or(0), at.position().unwrap_or(0))
}
