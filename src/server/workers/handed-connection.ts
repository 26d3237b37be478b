/** A connection on its way from the supervisor to a worker; the socket comes with it. */
export interface HandedConnection {
  readonly kind: 'connection';
  readonly id: number;
  /** Of the port that it has come through. */
  readonly key: string;
}

/** The worker's end of the pipe on which it says that a connection is its own. Behind stdio and the channel of `fork`. */
export const RECEIPT_FD = 4;
/** The id as 4 bytes, big-endian, and 1 for taken or 0 for not wanted. */
export const RECEIPT_BYTES = 5;

export function receiptOf(id: number, isTaken: boolean): Buffer {
  const receipt = Buffer.allocUnsafe(RECEIPT_BYTES);
  receipt.writeUInt32BE(id, 0);
  receipt.writeUInt8(isTaken ? 1 : 0, 4);
  return receipt;
}

/** Receipts as they come in pieces. */
export class ReceiptReader {
  readonly #onReceipt: (id: number, isTaken: boolean) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(onReceipt: (id: number, isTaken: boolean) => void) {
    this.#onReceipt = onReceipt;
  }

  read(chunk: Buffer): void {
    const all = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    for (; at + RECEIPT_BYTES <= all.length; at += RECEIPT_BYTES)
      this.#onReceipt(all.readUInt32BE(at), all.readUInt8(at + 4) === 1);
    this.#rest = all.subarray(at);
  }
}
