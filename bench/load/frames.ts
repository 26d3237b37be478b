export const TEXT = 1;
export const BINARY = 2;

export function serverFrame(opcode: number, payload: Buffer): Buffer {
  return Buffer.concat([frameHead(opcode, payload.length, 0), payload]);
}

export function clientFrame(opcode: number, payload: Buffer, mask: Buffer): Buffer {
  const masked = Buffer.from(payload.map((byte, index) => byte ^ mask[index & 3]!));
  return Buffer.concat([frameHead(opcode, payload.length, 0x80), mask, masked]);
}

function frameHead(opcode: number, length: number, maskBit: number): Buffer {
  if (length < 126) return Buffer.from([0x80 | opcode, maskBit | length]);
  if (length < 65536) return Buffer.from([0x80 | opcode, maskBit | 126, length >> 8, length & 255]);
  throw new TypeError(`load frames have less than 64 KiB, not ${length} bytes`);
}
