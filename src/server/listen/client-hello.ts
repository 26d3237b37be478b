/** RFC 8446 §5.1. */
const HANDSHAKE_RECORD = 22;
const RECORD_HEADER_BYTES = 5;
const CLIENT_HELLO = 1;
/** The type of a message, and its length in 3 bytes (RFC 8446 §4). */
const MESSAGE_HEADER_BYTES = 4;
/** With keys of post-quantum cryptography one has some 2 KiB, in one record. */
const MOST_BYTES = 16 * 1024;
const MOST_RECORDS = 16;

/** What a client of TLS has sent so far: is it a whole ClientHello? `absent`: it is the begin of something else. */
export function clientHelloIn(bytes: Buffer): 'whole' | 'incomplete' | 'absent' | 'too long' {
  let records = 0;
  let message: Buffer = Buffer.alloc(0);
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== HANDSHAKE_RECORD) return 'absent';
    if (++records > MOST_RECORDS) return 'too long';
    if (at + RECORD_HEADER_BYTES > bytes.length) break;
    const begin = at + RECORD_HEADER_BYTES;
    at = begin + bytes.readUInt16BE(at + 3);
    message = message.length === 0 ? bytes.subarray(begin, at) : Buffer.concat([message, bytes.subarray(begin, at)]);
    if (message.length > 0 && message[0] !== CLIENT_HELLO) return 'absent';
    if (message.length < MESSAGE_HEADER_BYTES) continue;
    const length = MESSAGE_HEADER_BYTES + message.readUIntBE(1, 3);
    if (length > MOST_BYTES) return 'too long';
    if (message.length >= length) return 'whole';
  }
  return 'incomplete';
}
