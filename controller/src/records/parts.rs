//! Values as the store takes them: JSON behind one byte of format, cut into parts where it is larger than one value of
//! the store may be. What is written anew in fewer parts, or removed, leaves no part behind.
//!
//! Which keys there are and what their values mean is left to `records`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RecordError;
use crate::store::{Expect, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_VALUE_BYTES, Store, Write};

/// The format of every value written by this program. An unknown newer one is refused by name, never misread.
const FORMAT: u8 = 1;
/// What stands before the text in each part: the format, and whether another part follows.
const HEAD: usize = 2;
/// Bytes of text in one part.
const ROOM: usize = MAX_VALUE_BYTES - HEAD;

/// What a key shall hold.
#[derive(Debug)]
pub(super) struct Value {
    key: String,
    expect: Expect,
    /// Nothing: the key goes.
    text: Option<Vec<u8>>,
}

impl Value {
    /// A value under `key`, if `expect` is met.
    pub(super) fn put(key: String, value: &impl Serialize, expect: Expect) -> Result<Self, RecordError> {
        match serde_json::to_vec(value) {
            Ok(text) => Ok(Self { key, expect, text: Some(text) }),
            Err(e) => Err(RecordError::Unreadable { key, reason: e.to_string() }),
        }
    }

    /// Nothing under `key`, whatever was there.
    pub(super) fn delete(key: String) -> Self {
        Self { key, expect: Expect::Anything, text: None }
    }

    /// The bytes of its parts and their keys.
    pub(super) fn bytes(&self) -> usize {
        self.writes().iter().map(write_bytes).sum()
    }

    /// One write for each part: `key`, `key+001`, `key+002`, …
    fn writes(&self) -> Vec<Write> {
        let Self { key, expect, text } = self;
        let Some(text) = text else { return vec![Write::Delete { key: key.clone(), expect: *expect }] };
        let parts = text.chunks(ROOM);
        let last = parts.len().saturating_sub(1);
        parts
            .enumerate()
            .map(|(number, part)| Write::Put {
                key: part_key(key, number),
                value: [&[FORMAT, u8::from(number < last)], part].concat(),
                expect: *expect,
            })
            .collect()
    }
}

fn part_key(key: &str, number: usize) -> String {
    if number == 0 { key.to_owned() } else { format!("{key}+{number:03}") }
}

fn write_bytes(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key, .. } => key.len(),
    }
}

/// Saves values in order, in as few batches of the store as they fit. A key that is named more than once is written
/// once, with its last value and in its last place, so that nothing is saved before what it rests on.
pub(super) async fn save(store: &dyn Store, values: Vec<Value>) -> Result<(), RecordError> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for value in last_of_each(values) {
        let mut writes = value.writes();
        writes.extend(stale_parts(store, &value, writes.len()).await?);
        let more: usize = writes.iter().map(write_bytes).sum();
        if !batch.is_empty() && (batch.len() + writes.len() > MAX_BATCH_WRITES || bytes + more > MAX_BATCH_BYTES) {
            store.commit(std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
        bytes += more;
        batch.extend(writes);
    }
    if !batch.is_empty() {
        store.commit(batch).await?;
    }
    Ok(())
}

fn last_of_each(values: Vec<Value>) -> impl Iterator<Item = Value> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept: Vec<Option<Value>> = Vec::with_capacity(values.len());
    for mut value in values {
        if let Some(earlier) = places.insert(value.key.clone(), kept.len()).and_then(|place| kept[place].take()) {
            // What must hold before the batch is what the first of them asked for.
            value.expect = earlier.expect;
        }
        kept.push(Some(value));
    }
    kept.into_iter().flatten()
}

/// The removal of parts that the value of this key has now and will have no more.
async fn stale_parts(store: &dyn Store, value: &Value, parts: usize) -> Result<Vec<Write>, RecordError> {
    match value.expect {
        // There is nothing under the key, or nothing will be written.
        Expect::Absent => return Ok(Vec::new()),
        Expect::Anything | Expect::Version(_) => {}
    }
    let parted = store.get(&value.key).await?.is_some_and(|entry| entry.value.get(1) == Some(&1));
    if !parted {
        return Ok(Vec::new());
    }
    let first = if value.text.is_some() { parts } else { 1 };
    let mut stale = Vec::new();
    for number in first.. {
        let key = part_key(&value.key, number);
        if store.get(&key).await?.is_none() {
            break;
        }
        stale.push(Write::Delete { key, expect: Expect::Anything });
    }
    Ok(stale)
}

/// Every value under a prefix, its parts put together.
pub(super) async fn list<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: &str,
) -> Result<Vec<(String, T)>, RecordError> {
    let mut values = Vec::new();
    let mut entries = store.list(prefix).await?.into_iter().peekable();
    while let Some((key, entry)) = entries.next() {
        let unreadable = |reason: String| RecordError::Unreadable { key: key.clone(), reason };
        let mut text = Vec::new();
        let mut part = entry.value;
        let mut parts = 1;
        loop {
            match part.first() {
                Some(&FORMAT) => {}
                Some(format) => {
                    return Err(unreadable(format!(
                        "it has format {format}, this program knows format {FORMAT}: use the program that wrote it"
                    )));
                }
                None => return Err(unreadable("it is empty".into())),
            }
            text.extend(part.get(HEAD..).unwrap_or_default());
            if part.get(1) != Some(&1) {
                break;
            }
            part = match entries.next_if(|(next, _)| *next == part_key(&key, parts)) {
                Some((_, entry)) => entry.value,
                None => {
                    return Err(unreadable(format!("part {parts} is missing: restore the controller from a backup")));
                }
            };
            parts += 1;
        }
        let value = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
        values.push((key, value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::Memory;

    fn put(key: &str, length: usize, expect: Expect) -> Value {
        Value::put(key.into(), &"x".repeat(length), expect).unwrap()
    }

    async fn keys(store: &Memory) -> Vec<String> {
        store.list("").await.unwrap().into_iter().map(|(key, _)| key).collect()
    }

    async fn lengths(store: &Memory) -> Vec<usize> {
        list::<String>(store, "big/").await.unwrap().into_iter().map(|(_, text)| text.len()).collect()
    }

    const LARGE: usize = 3 * MAX_VALUE_BYTES;

    #[tokio::test]
    async fn large_values_are_cut_and_put_together() {
        let store = Memory::default();
        save(&store, vec![put("big/x", LARGE, Expect::Absent)]).await.unwrap();
        assert_eq!(lengths(&store).await, [LARGE]);
        assert_eq!(keys(&store).await.len(), 4);
        store.commit(vec![Write::Delete { key: "big/x+002".into(), expect: Expect::Anything }]).await.unwrap();
        assert!(
            matches!(list::<String>(&store, "big/").await, Err(RecordError::Unreadable { .. })),
            "a lost part is never passed over"
        );
    }

    #[tokio::test]
    async fn a_value_that_shrinks_or_goes_leaves_no_parts() {
        let store = Memory::default();
        let neighbour = || put("big/x-1", 1, Expect::Anything);
        save(&store, vec![put("big/x", LARGE, Expect::Anything), neighbour()]).await.unwrap();
        save(&store, vec![put("big/x", MAX_VALUE_BYTES, Expect::Anything)]).await.unwrap();
        assert_eq!(keys(&store).await, ["big/x", "big/x+001", "big/x-1"]);
        save(&store, vec![put("big/x", 1, Expect::Anything)]).await.unwrap();
        assert_eq!(keys(&store).await, ["big/x", "big/x-1"]);
        assert_eq!(lengths(&store).await, [1, 1]);
        save(&store, vec![put("big/x", LARGE, Expect::Anything)]).await.unwrap();
        save(&store, vec![Value::delete("big/x".into())]).await.unwrap();
        assert_eq!(keys(&store).await, ["big/x-1"]);
        // Large and small in one turn: only the small one was ever there.
        save(&store, vec![put("big/y", LARGE, Expect::Anything), put("big/y", 2, Expect::Anything)]).await.unwrap();
        assert_eq!(keys(&store).await, ["big/x-1", "big/y"]);
        assert_eq!(lengths(&store).await, [1, 2]);
    }

    #[tokio::test]
    async fn more_than_one_batch_takes_is_saved_in_several() {
        let store = Memory::default();
        let values = (0..100).map(|i| put(&format!("big/{i:03}"), MAX_VALUE_BYTES, Expect::Absent)).collect();
        save(&store, values).await.unwrap();
        assert_eq!(lengths(&store).await, [MAX_VALUE_BYTES; 100]);
        let many = (0..=MAX_BATCH_WRITES).map(|i| put(&format!("many/{i}"), 1, Expect::Absent)).collect();
        save(&store, many).await.unwrap();
        assert_eq!(store.list("many/").await.unwrap().len(), MAX_BATCH_WRITES + 1);
    }

    #[test]
    fn a_value_given_twice_stands_where_it_was_given_last_and_expects_what_it_expected_first() {
        let values = vec![put("a", 1, Expect::Absent), put("fact", 1, Expect::Absent), put("a", 2, Expect::Anything)];
        let kept: Vec<_> = last_of_each(values).map(|value| (value.key, value.expect)).collect();
        assert_eq!(kept, [("fact".to_owned(), Expect::Absent), ("a".to_owned(), Expect::Absent)]);
    }
}
