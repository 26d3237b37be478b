import { HoldfastError } from '../base/errors.ts';
import { CloseCode } from '../wire/close-codes.ts';
import type { Admitted } from './admit.ts';

/** Judges the messages of a WebSocket's client; undefined where no rule of its route is about messages. */
export function messageInspector({
  head,
  route: { inspection, name },
}: Pick<Admitted, 'head' | 'route'>): ((message: string | Buffer) => HoldfastError | undefined) | undefined {
  if (!inspection?.readsMessages) return undefined;
  const judge = inspection.messageJudge(head, name);
  return message => {
    const refusal = judge(message);
    return refusal && new HoldfastError(refusal.code, refusal.reason, { closeCode: CloseCode.policyViolation });
  };
}
