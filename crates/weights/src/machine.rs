//! The stack machine that runs a pickle; see `pickle` for the meaning of its values.

use std::collections::HashMap;
use std::sync::Arc;

use crate::globals::{self, Element, Global};
use crate::reader::{Reader, Step, Stop};
use crate::value::{Id, Storage, TensorSpec, Value};

/// Most values of a pickle, which bounds the memory of a hostile file; real checkpoints hold some ten thousand.
const MAX_VALUES: usize = 1 << 20;
/// Most dimensions of a tensor; vision models use at most 5.
const MAX_RANK: usize = 8;

/// The shared value of everything that weights do not need: `None`, numbers, sets, namespaces, …
const OPAQUE: Id = 0;
const TRUE: Id = 1;

/// The state of the stack machine that runs a pickle.
pub(crate) struct Machine<'a> {
    input: Reader<'a>,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// A machine at the start of a pickle.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            input: Reader::new(bytes),
            values: vec![Value::Opaque, Value::True],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.input.position()
    }

    /// The arena that all ids refer to.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// Executes one instruction; returns the result at `STOP`.
    pub fn step(&mut self) -> Step<Option<Id>> {
        let [op] = self.input.array()?;
        match op {
            0x80 => match self.input.array()? {
                [2..=5] => {}
                [version] => return Err(Stop::Reason(format!("pickle protocol {version}"))),
            },
            0x95 => {
                self.input.array::<8>()?; // FRAME
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.mark()?,
            b'0' => self.discard()?,
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' | 0x89 | 0x8f => self.push_id(OPAQUE)?, // None, False, empty set
            0x88 => self.push_id(TRUE)?,
            b'J' => {
                let value = i32::from_le_bytes(self.input.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.input.array()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.input.array()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => {
                let length = self.input.length::<1>()?;
                self.long(length)?;
            }
            0x8b => {
                let length = self.input.length::<4>()?;
                self.long(length)?;
            }
            b'G' => {
                self.input.array::<8>()?;
                self.push_id(OPAQUE)?;
            }
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'T' | b'B' => self.binary::<4>()?,
            b'U' | b'C' => self.binary::<1>()?,
            0x8e | 0x96 => self.binary::<8>()?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(pairs(&items)?))?;
            }
            0x91 => {
                self.pop_mark()?;
                self.push_id(OPAQUE)?; // FROZENSET
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend_list(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(&items)?;
            }
            b'q' => {
                let key = self.input.length::<1>()?;
                self.remember(key as u64)?;
            }
            b'r' => {
                let key = self.input.length::<4>()?;
                self.remember(key as u64)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let key = self.input.length::<1>()?;
                self.recall(key as u64)?;
            }
            b'j' => {
                let key = self.input.length::<4>()?;
                self.recall(key as u64)?;
            }
            b'c' => {
                let module = self.input.line()?;
                let name = self.input.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (name, module) = (self.string(name)?, self.string(module)?);
                self.global(&module, &name)?;
            }
            b'Q' => self.persistent()?,
            b'R' | 0x81 => self.construct()?,
            b'b' => {
                self.pop()?; // attributes of an object: of no use here
                self.top()?;
            }
            other => {
                let reason = format!("pickle instruction {other:#04x} is not one torch.save uses");
                return Err(Stop::Reason(reason));
            }
        }
        Ok(None)
    }

    // --- values and stack ---

    fn push_id(&mut self, id: Id) -> Step<()> {
        if self.stack.len() >= MAX_VALUES {
            return Err("too deep a stack".into());
        }
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, value: Value) -> Step<()> {
        if self.values.len() >= MAX_VALUES {
            return Err("too many values".into());
        }
        self.values.push(value);
        self.push_id(self.values.len() - 1)
    }

    fn mark(&mut self) -> Step<()> {
        if self.marks.len() >= MAX_VALUES {
            return Err("too many marks".into());
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Lowest stack position that belongs to the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("an instruction lacks its operand".into()),
        }
    }

    fn pop(&mut self) -> Step<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        match self.marks.pop() {
            Some(floor) if floor <= self.stack.len() => Ok(self.stack.split_off(floor)),
            _ => Err("an instruction lacks its mark".into()),
        }
    }

    /// `POP`, which also removes a mark that is on top.
    fn discard(&mut self) -> Step<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop()?;
        Ok(())
    }

    fn value(&self, id: Id) -> Step<&Value> {
        self.values.get(id).ok_or_else(|| "a value that is not there".into())
    }

    fn remember(&mut self, key: u64) -> Step<()> {
        if self.memo.len() >= MAX_VALUES {
            return Err("too large a memo".into());
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        match self.memo.get(&key) {
            Some(&id) => self.push_id(id),
            None => Err("a memo entry that is not there".into()),
        }
    }

    // --- instructions with operands ---

    fn long(&mut self, length: usize) -> Step<()> {
        let bytes = self.input.take(length)?;
        if bytes.len() > 8 {
            return self.push_id(OPAQUE);
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let start = if negative { -1i64 } else { 0 };
        let value = bytes.iter().rev().fold(start, |value, &byte| (value << 8) | i64::from(byte));
        self.push(Value::Int(value))
    }

    fn text<const N: usize>(&mut self) -> Step<()> {
        let length = self.input.length::<N>()?;
        match std::str::from_utf8(self.input.take(length)?) {
            Ok(text) => self.push(Value::Text(text.into())),
            Err(_) => self.push_id(OPAQUE), // lone surrogates, as in some file names
        }
    }

    fn binary<const N: usize>(&mut self) -> Step<()> {
        let length = self.input.length::<N>()?;
        self.input.take(length)?;
        self.push_id(OPAQUE)
    }

    fn tuple(&mut self, length: usize) -> Step<()> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn extend_list(&mut self, items: &[Id]) -> Step<()> {
        let list = self.top()?;
        match self.values.get_mut(list) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            Some(Value::Opaque) => {}
            _ => return Err("items for something that is no list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Step<()> {
        let items = pairs(items)?;
        let dict = self.top()?;
        match self.values.get_mut(dict) {
            Some(Value::Dict(dict)) => dict.extend(items),
            Some(Value::Opaque) => {}
            _ => return Err("keys for something that is no dict".into()),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match globals::lookup(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => {
                let name: String = format!("{module}.{name}").chars().take(200).collect();
                Err(Stop::Global(name))
            }
        }
    }

    /// A storage from the persistent id `("storage", class, key, location, length)`.
    fn persistent(&mut self) -> Step<()> {
        let id = self.pop()?;
        let items = self.tuple_items(id)?;
        let &[tag, class, key, _location, _length] = items.as_slice() else {
            return Err("a storage reference that does not have 5 parts".into());
        };
        let Value::Global(Global::Storage(element)) = *self.value(class)? else {
            return Err("a storage reference without a storage class".into());
        };
        if &*self.string(tag)? != "storage" {
            return Err("a persistent object that is no storage".into());
        }
        let key = self.string(key)?;
        self.push(Value::Storage(Storage { element, key }))
    }

    /// A call `function(*arguments)`, or the construction of an object.
    fn construct(&mut self) -> Step<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let (mut global, mut arguments) = (self.function(callee)?, self.tuple_items(arguments)?);
        if matches!(global, Global::WithAttributes) {
            let &[function, _class, inner, ..] = arguments.as_slice() else {
                return Err("a tensor with attributes of fewer than 3 arguments".into());
            };
            (global, arguments) = (self.function(function)?, self.tuple_items(inner)?);
        }
        match global {
            Global::Opaque => self.push_id(OPAQUE),
            Global::Dict if arguments.len() <= 1 => self.push(Value::Dict(Vec::new())),
            Global::Dict => Err("a dict with arguments".into()),
            Global::Parameter => match arguments.first() {
                Some(&tensor) => self.push_id(tensor),
                None => Err("a parameter without a tensor".into()),
            },
            Global::Tensor => {
                let spec = self.tensor(&arguments)?;
                self.push(Value::Tensor(Box::new(spec)))
            }
            Global::Quantised => {
                let mut spec = self.tensor(&arguments)?;
                spec.storage.element.dtype = None;
                self.push(Value::Tensor(Box::new(spec)))
            }
            Global::Unread(what) => self.push(Value::Unread(what)),
            Global::WithAttributes => Err("a tensor with attributes inside another".into()),
            Global::Dtype(_) => Err("a call of a dtype".into()),
            Global::Storage(_) => Err("a storage made in the pickle itself".into()),
        }
    }

    /// A tensor from the arguments `(storage, offset, size, stride, …)`.
    fn tensor(&self, arguments: &[Id]) -> Step<TensorSpec> {
        let &[storage, offset, size, stride, ..] = arguments else {
            return Err("a tensor with fewer than 4 arguments".into());
        };
        let Value::Storage(storage) = self.value(storage)? else {
            return Err("a tensor without a storage".into());
        };
        let (shape, stride) = (self.sizes(size)?, self.sizes(stride)?);
        if shape.len() != stride.len() || shape.len() > MAX_RANK {
            let (sizes, strides) = (shape.len(), stride.len());
            let reason = format!("a tensor with {sizes} dimensions and {strides} strides");
            return Err(Stop::Reason(reason));
        }
        let mut storage = storage.clone();
        let mut negative = false;
        for &id in arguments.iter().skip(6) {
            match self.value(id)? {
                // `_rebuild_tensor_v3` says what the bytes of an untyped storage are.
                Value::Global(Global::Dtype(element)) => storage.element = *element,
                Value::Dict(metadata) => {
                    for &(key, value) in metadata {
                        let key = self.string(key)?;
                        match (&*key, self.value(value)?) {
                            ("neg", Value::True) => negative = true,
                            // Conjugation changes nothing but complex numbers, which are not read.
                            ("neg" | "conj", _) => {}
                            _ => storage.element = Element { class: "numbers with unknown metadata", dtype: None },
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(TensorSpec { storage, offset: self.size(offset)?, shape, stride, negative })
    }

    fn function(&self, id: Id) -> Step<Global> {
        match self.value(id)? {
            Value::Global(global) => Ok(*global),
            _ => Err("a call of something that is no function".into()),
        }
    }

    // --- operands ---

    fn string(&self, id: Id) -> Step<Arc<str>> {
        match self.value(id)? {
            Value::Text(text) => Ok(text.clone()),
            _ => Err("something else where a string belongs".into()),
        }
    }

    /// The first few items of a tuple, enough for any call here.
    fn tuple_items(&self, id: Id) -> Step<Vec<Id>> {
        match self.value(id)? {
            Value::Tuple(items) => Ok(items.iter().take(8).copied().collect()),
            _ => Err("something else where a tuple belongs".into()),
        }
    }

    fn size(&self, id: Id) -> Step<usize> {
        match self.value(id)? {
            Value::Int(value) => usize::try_from(*value).map_err(|_| "a negative size or stride".into()),
            _ => Err("something else where an integer belongs".into()),
        }
    }

    fn sizes(&self, id: Id) -> Step<Vec<usize>> {
        let (Value::Tuple(items) | Value::List(items)) = self.value(id)? else {
            return Err("something else where a shape belongs".into());
        };
        let few = items.iter().take(MAX_RANK + 1);
        few.map(|&item| self.size(item)).collect()
    }
}

/// Pairs of keys and values from an alternating list.
fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, []) = items.as_chunks::<2>() else {
        return Err("a key without its value".into());
    };
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
