import { isUtf8 } from 'node:buffer';
import { HoldfastError } from '../../base/errors.ts';
import { CloseCode, isSendableCloseCode } from '../../wire/close-codes.ts';

export interface CloseFrame {
  /** 1005 when the frame carries none. */
  readonly code: number;
  readonly reason: string;
}

/**
 * Reads what a close frame carries (RFC 6455 §5.5.1, §7.4).
 *
 * @returns ERR_WS_INVALID_CLOSE when its code may not stand there, ERR_WS_INVALID_UTF8 when its reason is not text.
 */
export function parseCloseFrame(payload: Buffer): CloseFrame | HoldfastError {
  if (payload.length === 0) return { code: CloseCode.noStatus, reason: '' };
  const code = payload.length === 1 ? undefined : payload.readUInt16BE(0);
  if (code === undefined || !isSendableCloseCode(code))
    return new HoldfastError(
      'ERR_WS_INVALID_CLOSE',
      `a close frame carries ${code === undefined ? 'half a code' : `the code ${code}`}`,
      {
        closeCode: CloseCode.protocolError,
      },
    );
  const reason = payload.subarray(2);
  if (!isUtf8(reason))
    return new HoldfastError('ERR_WS_INVALID_UTF8', 'the reason of a close frame is not UTF-8', {
      closeCode: CloseCode.invalidData,
    });
  return { code, reason: reason.toString() };
}
