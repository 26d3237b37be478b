import { expect, test } from 'vitest';
import { type FlowObserver, FlowObservers, type FlowTrace } from '../../src/gateway/flow-observer.ts';

/** Everything that is asked of it throws, but for what runs the request. */
const broken = new Proxy({} as FlowTrace, {
  get: (_, name) => {
    if (name === 'run') return <T>(work: () => T) => work();
    throw new Error('broken');
  },
});

test('a trace that throws harms neither its caller nor the traces beside it', () => {
  const steps: string[] = [];
  const observers = new FlowObservers();
  const good = {
    traceId: undefined,
    run: <T>(work: () => T) => work(),
    step: (name: string) => steps.push(name),
    contextHeaders: () => [{ name: 'a', value: 'b' }],
  };
  observers.add({ begin: () => broken });
  observers.add({ begin: () => good as unknown as FlowTrace });
  observers.add({
    begin: () => {
      throw new Error('broken');
    },
  } as FlowObserver);
  const trace = observers.begin({} as never, 'request')!;
  trace.step('head', undefined);
  expect(steps).toEqual(['head']);
  expect(trace.traceId).toBeUndefined();
  expect(trace.contextHeaders()).toEqual([{ name: 'a', value: 'b' }]);
  expect(trace.run(() => 'done')).toBe('done');
});

test.each([
  ['does not call it', () => {}],
  [
    'has called it',
    (work: () => unknown) => {
      work();
    },
  ],
  [
    'calls it again',
    (work: () => unknown) => {
      work();
      work();
    },
  ],
])('the work of a request is done once, and its result is its own, if what runs it %s and throws', (_, call) => {
  const observers = new FlowObservers();
  const throwing = {
    run(work: () => unknown) {
      call(work);
      throw new Error('broken context manager');
    },
  };
  observers.add({ begin: () => throwing as unknown as FlowTrace });
  const trace = observers.begin({} as never, 'request')!;
  let times = 0;
  expect(trace.run(() => ++times)).toBe(1);
  expect(() =>
    trace.run(() => {
      throw new Error('of the work');
    }),
  ).toThrow('of the work');
  expect(times).toBe(1);
});

test('with nobody in it, nothing follows a request, also when somebody has left', () => {
  const observers = new FlowObservers();
  const leave = observers.add({ begin: () => broken });
  expect(observers.begin({} as never, 'request')).toBeDefined();
  leave();
  expect(observers.begin({} as never, 'request')).toBeUndefined();
});
