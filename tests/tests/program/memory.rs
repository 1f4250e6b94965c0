//! How much memory the program uses, read from a trace of every instruction that the machine executed: what is written to
//! and read from, and what pointers are made to.
//!
//! The stack of the virtual machine is 64 frames of 4,096 bytes, one for each call; a frame is used from its top (register
//! 10) down. The heap is 32 KB, and the program's allocator gives it out from its end down and takes nothing back: its
//! first word says how far it has come.

use litesvm::{InvocationInspectCallback, LiteSVM};
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::ebpf;
use solana_transaction::sanitized::SanitizedTransaction;
use std::sync::{Arc, Mutex};
use tallybook_chain::PROGRAM_ID;

/// Bytes of one frame of the stack.
pub(crate) const FRAME_BYTES: u64 = 4_096;
/// Bytes at the bottom of a frame where arguments for the next one stand: at most eight of them.
const ARGUMENT_BYTES: u64 = 64;
/// Calls within calls, the entrypoint's included.
pub(crate) const MAX_FRAMES: u64 = 64;
/// Bytes of the heap that a program has without asking for more.
pub(crate) const HEAP_BYTES: u64 = 32_768;
/// The register that points to the top of the frame.
const FRAME_TOP: usize = 10;

/// What the program used at most at any moment.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Memory {
    /// Frames that were in use at once.
    pub(crate) frames: u64,
    /// Bytes of the frame of which most was used.
    pub(crate) frame_bytes: u64,
    /// Bytes that were taken from the heap.
    pub(crate) heap_bytes: u64,
}

/// Sees what each transaction's instructions of the program use, and keeps the most of it until it is asked.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Memory>>);

impl Watch {
    /// The most that was used since it was asked last.
    pub(crate) fn take(&self) -> Memory {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl InvocationInspectCallback for Watch {
    fn before_invocation(&self, _: &LiteSVM, _: &SanitizedTransaction, _: &[u16], _: &mut InvokeContext, _: bool) {}

    fn after_invocation(
        &self,
        _: &LiteSVM,
        _: &SanitizedTransaction,
        _: &[u16],
        context: &InvokeContext,
        is_traced: bool,
    ) {
        assert!(is_traced);
        context.iterate_vm_traces(&|instruction, executable, trace| {
            if instruction.get_program_key().unwrap() == &PROGRAM_ID {
                let (_, text) = executable.get_text_bytes();
                trace.iter().for_each(|registers| self.0.lock().unwrap().see(text, registers));
            }
        });
    }
}

impl Memory {
    /// Takes account of one executed instruction, from the registers before it; the last of them counts instructions.
    fn see(&mut self, text: &[u8], registers: &[u64; 12]) {
        let instruction = ebpf::get_insn(text, usize::try_from(registers[11]).unwrap());
        let top = registers[FRAME_TOP];
        self.frames = self.frames.max((top - ebpf::MM_STACK_START) / FRAME_BYTES);
        let (from, to) = (registers[usize::from(instruction.src)], registers[usize::from(instruction.dst)]);
        let offset = i64::from(instruction.off);
        let place = match instruction.opc {
            ebpf::LD_B_REG | ebpf::LD_H_REG | ebpf::LD_W_REG | ebpf::LD_DW_REG => from.wrapping_add_signed(offset),
            ebpf::ST_B_IMM | ebpf::ST_H_IMM | ebpf::ST_W_IMM | ebpf::ST_DW_IMM => to.wrapping_add_signed(offset),
            ebpf::ST_B_REG | ebpf::ST_H_REG | ebpf::ST_W_REG => to.wrapping_add_signed(offset),
            ebpf::ST_DW_REG => {
                let place = to.wrapping_add_signed(offset);
                if place == ebpf::MM_HEAP_START {
                    self.heap_bytes = self.heap_bytes.max(ebpf::MM_HEAP_START + HEAP_BYTES - from);
                }
                place
            }
            // A pointer to something on the stack, which others may write to: the runtime, or another function.
            ebpf::ADD64_IMM if to == top => to.wrapping_add_signed(instruction.imm),
            _ => return,
        };
        // From the other end of the frame, arguments beyond the fifth are handed to the next one.
        if (top - FRAME_BYTES + ARGUMENT_BYTES..top).contains(&place) {
            self.frame_bytes = self.frame_bytes.max(top - place);
        }
    }
}
