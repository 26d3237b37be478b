/** What a reader reports: a kind, then its values. Binary data as hex. */
export type Found = readonly [kind: string, ...values: unknown[]];

const SENDABLE_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];

/**
 * What a reader must find in these bytes, without extensions: RFC 6455 read a second time, by a slow and simple program
 * that always starts from the whole input. To compare with, not to learn from.
 */
export function readSlowly(
  bytes: Buffer,
  role: 'server' | 'client',
  limits: { maxMessageBytes: number; maxFragments: number },
): Found[] {
  const found: Found[] = [];
  const fail = (code: number): Found[] => [...found, ['error', code]];
  let message: { isText: boolean; frames: Buffer[]; announced: number } | undefined;
  let at = 0;
  for (;;) {
    if (bytes.length - at < 2) return found;
    const first = bytes[at]!;
    const form = bytes[at + 1]! & 127;
    const isMasked = bytes[at + 1]! > 127;
    const lengthEnd = at + 2 + (form === 126 ? 2 : form === 127 ? 8 : 0);
    const start = lengthEnd + (isMasked ? 4 : 0);
    if (bytes.length < start) return found;
    const length = form < 126 ? BigInt(form) : BigInt(`0x${bytes.toString('hex', at + 2, lengthEnd)}`);
    const opcode = first & 15;
    const isControl = opcode >= 8;
    const fin = first > 127;

    if ((first & 0x70) !== 0 || isMasked !== (role === 'server') || ![0, 1, 2, 8, 9, 10].includes(opcode))
      return fail(1002);
    if (isControl && (!fin || form > 125)) return fail(1002);
    if ((form === 126 && length < 126n) || (form === 127 && (length < 65536n || length >= 2n ** 63n)))
      return fail(1002);
    if (!isControl) {
      if ((opcode === 0) !== (message !== undefined)) return fail(1002);
      message ??= { isText: opcode === 1, frames: [], announced: 0 };
      message.announced += Number(length);
      if (message.announced > limits.maxMessageBytes) return fail(1009);
      if (message.frames.length + 1 > limits.maxFragments) return fail(1008);
    }

    const end = start + Number(length);
    const payload = Buffer.from(bytes.subarray(start, end));
    if (isMasked) for (const [i, byte] of payload.entries()) payload[i] = byte ^ bytes[start - 4 + (i % 4)]!;
    const isWhole = payload.length === Number(length);
    if (!isControl) {
      message!.frames.push(payload);
      if (message!.isText && !isText(message!.frames, fin && isWhole)) return fail(1007);
    }
    if (!isWhole) return found;

    if (opcode === 9) found.push(['ping', payload.toString('hex')]);
    if (opcode === 10) found.push(['pong', payload.toString('hex')]);
    if (opcode === 8) {
      if (payload.length === 0) return [...found, ['close', 1005, '']];
      const code = payload.length === 1 ? 0 : payload.readUInt16BE(0);
      if (!SENDABLE_CODES.includes(code) && !(code >= 3000 && code <= 4999)) return fail(1002);
      const reason = payload.subarray(2);
      return isText([reason], true) ? [...found, ['close', code, reason.toString()]] : fail(1007);
    }
    if (!isControl && fin) {
      const data = Buffer.concat(message!.frames);
      found.push(['message', message!.isText ? data.toString() : data.toString('hex')]);
      message = undefined;
    }
    at = end;
  }
}

/** Whether the pieces are UTF-8, or, when more is to come, can still become it. */
function isText(pieces: readonly Buffer[], isComplete: boolean): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(pieces), { stream: !isComplete });
    return true;
  } catch {
    return false;
  }
}
