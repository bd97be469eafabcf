//! What `RHIZOME_STORY` asks for: `every` part of the story with a kill at each record, one of them
//! (`every:plug`), or one from a record on (`every:plug:7`) or between two (`every:plug:7-9`).

use crate::courses::PARTS;
use crate::kills::Span;

/// The spans that the text names; what it might have said, if it names none.
pub(crate) fn spans(text: &str) -> Result<Vec<Span>, String> {
    let no = || {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        let names = names.join(", ");
        format!(
            "RHIZOME_STORY: `every`, `every:PART`, `every:PART:FROM` or `every:PART:FROM-TO`, \
             and not `{text}`; the parts are {names}"
        )
    };
    let mut words = text.split(':');
    let (every, part, range) = (words.next(), words.next(), words.next());
    if every != Some("every") || words.next().is_some() {
        return Err(no());
    }
    let Some(name) = part else {
        return Ok(PARTS.iter().map(Span::whole).collect());
    };
    let part = PARTS.iter().find(|part| part.name == name);
    let mut span = Span::whole(part.ok_or_else(no)?);
    if let Some(range) = range {
        let (from, to) = range
            .split_once('-')
            .map_or((range, None), |(from, to)| (from, Some(to)));
        span.from = from.parse().map_err(|_| no())?;
        span.to = to.map(str::parse).transpose().map_err(|_| no())?;
    }
    Ok(vec![span])
}

#[test]
fn a_part_is_asked_for_by_its_name_and_a_wrong_one_is_told_all_names() {
    let told = |text: &str| {
        let spans = spans(text)?;
        let told = spans
            .iter()
            .map(|span| (span.part.name, span.from, span.to));
        Ok::<_, String>(told.collect::<Vec<_>>())
    };
    assert_eq!(told("every").unwrap().len(), PARTS.len());
    assert_eq!(told("every:plug").unwrap(), [("plug", 1, None)]);
    assert_eq!(told("every:quick").unwrap(), [("quick", 0, None)]);
    assert_eq!(told("every:plug:7").unwrap(), [("plug", 7, None)]);
    assert_eq!(told("every:plug:7-9").unwrap(), [("plug", 7, Some(9))]);
    for wrong in [
        "whole",
        "every:",
        "every:plugs",
        "every:plug:x",
        "every:plug:1-",
        "every:plug:1:2",
    ] {
        let said = told(wrong).unwrap_err();
        assert!(
            said.contains(wrong) && said.contains("build, scale, plug"),
            "{said}"
        );
    }
}
