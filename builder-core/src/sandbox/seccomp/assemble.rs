//! From rules by call number to a classic BPF program.
//!
//! The numbers are cut into ranges of one rule each; a range is found by halving. Every path ends in a return,
//! so the halves follow each other without joins; a half too long for an 8-bit jump is reached by a long one.

use std::collections::BTreeMap;

use crate::sys::Instruction;

/// What a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Allow,
    Errno(u32),
    /// The listener is asked.
    Ask,
    /// The listener is asked if any of `bits` is set in the argument, else it is allowed.
    AskWith {
        argument: u32,
        bits: u32,
    },
    /// The listener is asked if none of `bits` is set in the argument, else it is allowed.
    AskWithout {
        argument: u32,
        bits: u32,
    },
    /// Allowed if none of `bits` is set in the argument, else refused.
    AllowWithout {
        argument: u32,
        bits: u32,
    },
    /// Allowed if the argument is in one of `ranges` (inclusive), else refused.
    ///
    /// The low 32 bits are looked at: the kernel takes these arguments as `int`.
    AllowAmong {
        argument: u32,
        ranges: &'static [(u32, u32)],
    },
}

/// The rules of one calling convention.
#[derive(Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_*`.
    pub(super) id: u32,
    pub(super) rules: BTreeMap<u32, Rule>,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

// offsets in `struct seccomp_data`
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program; what no rule names, and other architectures, are answered by `other`, and what a rule refuses `refusal`.
pub(super) fn assemble(
    architectures: &[Architecture],
    refusal: u32,
    other: Rule,
) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for architecture in architectures {
        let mut body = vec![plain(LOAD, NUMBER)];
        body.extend(search(&ranges(&architecture.rules, other), refusal));
        program.push(Instruction {
            code: JUMP_EQUAL,
            jump_true: 1,
            jump_false: 0,
            value: architecture.id,
        });
        program.push(plain(JUMP, length(&body)));
        program.extend(body);
    }
    program.extend(answer(other, refusal));
    program
}

/// Cuts all numbers into ranges of one rule each: the first number of each, and its rule.
fn ranges(rules: &BTreeMap<u32, Rule>, other: Rule) -> Vec<(u32, Rule)> {
    let mut out: Vec<(u32, Rule)> = Vec::new();
    let mut push = |start: u32, rule: Rule| {
        if out.last().is_none_or(|last| last.1 != rule) {
            out.push((start, rule));
        }
    };
    let mut next = 0;
    for (&number, &rule) in rules {
        if number > next {
            push(next, other);
        }
        push(number, rule);
        next = number + 1;
    }
    push(next, other);
    out
}

fn search(ranges: &[(u32, Rule)], refusal: u32) -> Vec<Instruction> {
    if let [(_, rule)] = ranges {
        return answer(*rule, refusal);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (low_code, high_code) = (search(low, refusal), search(high, refusal));
    let start = high[0].0;
    let mut out = Vec::with_capacity(low_code.len() + high_code.len() + 2);
    match u8::try_from(low_code.len()) {
        Ok(jump_true) => out.push(Instruction {
            code: JUMP_AT_LEAST,
            jump_true,
            jump_false: 0,
            value: start,
        }),
        Err(_) => {
            out.push(Instruction {
                code: JUMP_AT_LEAST,
                jump_true: 0,
                jump_false: 1,
                value: start,
            });
            out.push(plain(JUMP, length(&low_code)));
        }
    }
    out.extend(low_code);
    out.extend(high_code);
    out
}

fn answer(rule: Rule, refusal: u32) -> Vec<Instruction> {
    let allow = plain(RETURN, libc::SECCOMP_RET_ALLOW);
    let refuse = plain(RETURN, libc::SECCOMP_RET_ERRNO | refusal);
    match rule {
        Rule::Allow => vec![allow],
        Rule::Errno(errno) => vec![plain(RETURN, libc::SECCOMP_RET_ERRNO | errno)],
        Rule::Ask => vec![plain(RETURN, libc::SECCOMP_RET_USER_NOTIF)],
        Rule::AskWith { argument, bits } | Rule::AskWithout { argument, bits } => {
            let with = matches!(rule, Rule::AskWith { .. });
            vec![
                plain(LOAD, low_half(argument)),
                Instruction {
                    code: JUMP_ANY_BIT,
                    jump_true: u8::from(with),
                    jump_false: u8::from(!with),
                    value: bits,
                },
                allow,
                plain(RETURN, libc::SECCOMP_RET_USER_NOTIF),
            ]
        }
        Rule::AllowWithout { argument, bits } => vec![
            plain(LOAD, low_half(argument)),
            Instruction {
                code: JUMP_ANY_BIT,
                jump_true: 1,
                jump_false: 0,
                value: bits,
            },
            allow,
            refuse,
        ],
        Rule::AllowAmong { argument, ranges } => {
            let mut out = vec![plain(LOAD, low_half(argument))];
            for &(first, last) in ranges {
                match last.checked_add(1) {
                    // below first: on to the next; at or above first and below end: allowed
                    Some(end) => out.extend([
                        Instruction {
                            code: JUMP_AT_LEAST,
                            jump_true: 0,
                            jump_false: 2,
                            value: first,
                        },
                        Instruction {
                            code: JUMP_AT_LEAST,
                            jump_true: 1,
                            jump_false: 0,
                            value: end,
                        },
                        allow,
                    ]),
                    None => out.extend([
                        Instruction {
                            code: JUMP_AT_LEAST,
                            jump_true: 0,
                            jump_false: 1,
                            value: first,
                        },
                        allow,
                    ]),
                }
            }
            out.push(refuse);
            out
        }
    }
}

/// Offset of the low 32 bits of an argument on a little-endian machine.
fn low_half(argument: u32) -> u32 {
    ARGUMENTS + 8 * argument
}

fn plain(code: u16, value: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        value,
    }
}

fn length(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

/// Runs a program as the kernel would: the answer to a call with one argument.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], architecture: u32, number: u32, argument: u32) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = program[at];
        at += 1;
        let jump = |holds: bool| {
            usize::from(if holds {
                instruction.jump_true
            } else {
                instruction.jump_false
            })
        };
        match instruction.code {
            LOAD => {
                accumulator = match instruction.value {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    ARGUMENTS => argument,
                    _ => 0,
                };
            }
            RETURN => return instruction.value,
            JUMP => at += instruction.value as usize,
            JUMP_EQUAL => at += jump(accumulator == instruction.value),
            JUMP_AT_LEAST => at += jump(accumulator >= instruction.value),
            JUMP_ANY_BIT => at += jump(accumulator & instruction.value != 0),
            other => panic!("instruction {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_gets_its_rule_across_long_jumps() {
        // alternate rules make one range a number: a program with halves far longer than an 8-bit jump
        let rules: BTreeMap<u32, Rule> = (0..600)
            .map(|number| {
                (
                    number * 2,
                    if number % 3 == 0 {
                        Rule::Errno(38)
                    } else {
                        Rule::Allow
                    },
                )
            })
            .collect();
        let program = assemble(
            &[Architecture {
                id: 7,
                rules: rules.clone(),
            }],
            1,
            Rule::Errno(1),
        );
        for number in 0..1300 {
            let expected = match rules.get(&number) {
                Some(Rule::Allow) => libc::SECCOMP_RET_ALLOW,
                Some(Rule::Errno(errno)) => libc::SECCOMP_RET_ERRNO | errno,
                _ => libc::SECCOMP_RET_ERRNO | 1,
            };
            assert_eq!(run(&program, 7, number, 0), expected, "{number}");
            assert_eq!(
                run(&program, 8, number, 0),
                libc::SECCOMP_RET_ERRNO | 1,
                "{number}, another architecture"
            );
        }
    }
}
