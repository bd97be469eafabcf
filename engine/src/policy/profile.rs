//! What keeps a script from hurting the process: the limits of the Rhai engine.
//!
//! With Rhai's usual limits a script can abort the process (self-`eval`, printing a deeply
//! nested array), run for 20 s within a million operations, sleep, or read any `.rhai` file.
//! These limits, on a thread with a stack of 16 MiB (the caller's to give), leave it none of
//! that. They differ between Rhai's debug and release builds unless set, so all are set.

use std::sync::Arc;

use rhai::module_resolvers::DummyModuleResolver;
use rhai::{Engine, OptimizationLevel};

use super::error::clean;
use super::host::{Host, raise};

/// Operations of one run, a load or a body: about 80 ms of the slowest script known.
pub(super) const MAX_OPERATIONS: u64 = 200_000;
/// The interrupt is asked once in so many operations; a power of two.
const ASKED_EVERY: u64 = 64;
const MAX_CALL_LEVELS: usize = 16;
/// Depths of expressions, at the top level and within functions.
const MAX_EXPRESSION_DEPTHS: (usize, usize) = (32, 16);
const MAX_STRING_BYTES: usize = 16 * 1024;
const MAX_ARRAY: usize = 1_000;
const MAX_MAP: usize = 500;
const MAX_VARIABLES: usize = 128;
/// Closures count as functions: this bounds the rules with bodies of one file, too.
pub(super) const MAX_FUNCTIONS: usize = 64;
/// Lines that scripts print between two takings, and characters of each.
const MAX_PRINTED: (usize, usize) = (64, 400);

/// An engine with every limit set and nothing of ours registered yet.
pub(super) fn engine(host: &Arc<Host>) -> Engine {
    let mut engine = Engine::new();
    engine
        .set_max_operations(MAX_OPERATIONS)
        .set_max_call_levels(MAX_CALL_LEVELS)
        .set_max_expr_depths(MAX_EXPRESSION_DEPTHS.0, MAX_EXPRESSION_DEPTHS.1)
        .set_max_string_size(MAX_STRING_BYTES)
        .set_max_array_size(MAX_ARRAY)
        .set_max_map_size(MAX_MAP)
        .set_max_variables(MAX_VARIABLES)
        .set_max_functions(MAX_FUNCTIONS)
        .set_max_modules(0)
        .set_module_resolver(DummyModuleResolver::new())
        .set_optimization_level(OptimizationLevel::None)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .disable_symbol("eval")
        .disable_symbol("import")
        .disable_symbol("export")
        // `f = f.curry(f)` doubles what it holds each time, and no limit of Rhai's counts that.
        .disable_symbol("curry");
    let asked = Arc::clone(host);
    engine.on_progress(move |operations| {
        let due = operations % ASKED_EVERY == 0;
        (due && asked.interrupted()).then_some(rhai::Dynamic::UNIT)
    });
    let printer = Arc::clone(host);
    engine.on_print(move |text| print(&printer, text));
    let printer = Arc::clone(host);
    engine.on_debug(move |text, _, _| print(&printer, text));
    forbid(&mut engine);
    engine
}

fn print(host: &Host, text: &str) {
    let mut state = host.state();
    if state.printed.len() < MAX_PRINTED.0 {
        state.printed.push(clean(text, MAX_PRINTED.1));
    }
}

/// Puts errors in the place of functions that wait, or that end a file before its end.
fn forbid(engine: &mut Engine) {
    use rhai::{Dynamic, EvalAltResult, NativeCallContext};
    type Never = Result<(), Box<EvalAltResult>>;
    fn no_sleep(context: &NativeCallContext) -> Never {
        Err(raise(
            "a policy cannot sleep: hold a condition with `.for_at_least(\"1m\")`",
            context.call_position(),
        ))
    }
    fn no_exit(context: &NativeCallContext) -> Never {
        Err(raise(
            "`exit` would leave the rest of the file unread; end a body with `return`",
            context.call_position(),
        ))
    }
    engine
        .register_fn("sleep", |context: NativeCallContext, _: i64| {
            no_sleep(&context)
        })
        .register_fn("sleep", |context: NativeCallContext, _: f64| {
            no_sleep(&context)
        })
        .register_fn("exit", |context: NativeCallContext| no_exit(&context))
        .register_fn("exit", |context: NativeCallContext, _: Dynamic| {
            no_exit(&context)
        });
}
