//! An assembler for the few eBPF instructions that the bench's programs use, so that they build with
//! nothing but stable Rust and are read where they are used.
//!
//! Kernel: `Documentation/bpf/standardization/instruction-set.rst`, `include/uapi/linux/bpf.h`. A
//! `call` spoils R1 to R5; R6 to R9 keep what they hold; R0 is what a function returns.

/// A register.
#[derive(Clone, Copy, Debug)]
pub struct Reg(u8);

pub const R0: Reg = Reg(0);
pub const R1: Reg = Reg(1);
pub const R2: Reg = Reg(2);
pub const R3: Reg = Reg(3);
pub const R4: Reg = Reg(4);
pub const R6: Reg = Reg(6);
pub const R7: Reg = Reg(7);
pub const R8: Reg = Reg(8);
pub const R9: Reg = Reg(9);

/// How much a load or a store moves.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// What an arithmetic instruction does to its first operand, in 64 bits.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// When a jump is taken; comparisons are unsigned.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum If {
    Greater = 0x20,
    NotEqual = 0x50,
    Less = 0xa0,
}

/// Functions of the kernel (`bpf-helpers(7)`).
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Helper {
    /// Nanoseconds since boot → R0.
    KtimeGetNs = 5,
    /// Interface R1, flags R2 → R0, the verdict.
    Redirect = 23,
    /// Makes R2 bytes of the skb R1 readable.
    SkbPullData = 39,
}

/// A place in the code that jumps lead forward to.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

const LD_DOUBLE: u8 = 0x18;
const LDX: u8 = 0x61;
const ST: u8 = 0x62;
const STX: u8 = 0x63;
const STX_ATOMIC: u8 = 0xc3;
const ALU_NUMBER: u8 = 0x07;
const ALU_REGISTER: u8 = 0x0f;
const JUMP_NUMBER: u8 = 0x05;
const JUMP_REGISTER: u8 = 0x0d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// In the source field of [`LD_DOUBLE`]: the address of a map's only value.
const PSEUDO_MAP_VALUE: Reg = Reg(2);

/// A program in the making.
#[derive(Debug, Default)]
pub struct Code {
    instructions: Vec<u64>,
    /// Where each label stands; `None` until it is placed.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Code {
    /// The finished program: every jump with its offset.
    pub fn finish(mut self) -> Vec<u64> {
        for (at, Label(label)) in self.jumps {
            let target = self.labels[label].expect("every label is placed");
            // Counted from the instruction behind the jump.
            let offset = (target - at - 1) as u64;
            self.instructions[at] |= offset << 16;
        }
        self.instructions
    }

    /// A label that [`Code::place`] is yet to place.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Here is `label`.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    /// `to = *(from + offset)`
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.emit(LDX | size as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = from`
    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.emit(STX | size as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = number`
    pub fn store_number(&mut self, size: Size, to: Reg, offset: i16, number: i32) {
        self.emit(ST | size as u8, to, R0, offset, number);
    }

    /// `*(to + offset) += from`, 64 bits, whoever else does the same.
    pub fn atomic_add(&mut self, to: Reg, offset: i16, from: Reg) {
        self.emit(STX_ATOMIC | Size::Double as u8, to, from, offset, 0);
    }

    /// `to = the address of the only value of the map with this descriptor`
    pub fn map_value(&mut self, to: Reg, map: i32) {
        self.emit(LD_DOUBLE, to, PSEUDO_MAP_VALUE, 0, map);
        self.emit(0, R0, R0, 0, 0);
    }

    /// `to = to <operation> number`
    pub fn number(&mut self, operation: Alu, to: Reg, number: i32) {
        self.emit(ALU_NUMBER | operation as u8, to, R0, 0, number);
    }

    /// `to = to <operation> from`
    pub fn register(&mut self, operation: Alu, to: Reg, from: Reg) {
        self.emit(ALU_REGISTER | operation as u8, to, from, 0, 0);
    }

    /// Goes on at `label`.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.emit(JUMP_NUMBER, R0, R0, 0, 0);
    }

    /// Goes on at `label` if `left <condition> number`.
    pub fn jump_if_number(&mut self, left: Reg, condition: If, number: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.emit(JUMP_NUMBER | condition as u8, left, R0, 0, number);
    }

    /// Goes on at `label` if `left <condition> right`.
    pub fn jump_if(&mut self, left: Reg, condition: If, right: Reg, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.emit(JUMP_REGISTER | condition as u8, left, right, 0, 0);
    }

    /// Calls the kernel.
    pub fn call(&mut self, helper: Helper) {
        self.emit(CALL, R0, R0, 0, helper as i32);
    }

    /// Ends the program; its answer is in R0.
    pub fn exit(&mut self) {
        self.emit(EXIT, R0, R0, 0, 0);
    }

    /// Ends the program with this answer.
    pub fn answer(&mut self, verdict: i32) {
        self.number(Alu::Mov, R0, verdict);
        self.exit();
    }

    /// Opcode, registers, offset, number: 8, 4 and 4, 16, 32 bits.
    fn emit(&mut self, opcode: u8, to: Reg, from: Reg, offset: i16, number: i32) {
        let registers = from.0 << 4 | to.0;
        let offset = u64::from(offset.cast_unsigned()) << 16;
        let number = u64::from(number.cast_unsigned()) << 32;
        let instruction = number | offset | u64::from(registers) << 8 | u64::from(opcode);
        self.instructions.push(instruction);
    }
}
