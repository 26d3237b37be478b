/** Waits until a number has stopped changing for 20 turns of the event loop that each took 5 ms or more. */
export async function settled(value: () => number): Promise<void> {
  let last = -1;
  for (let same = 0; same < 20; ) {
    const now = value();
    same = now === last ? same + 1 : 0;
    last = now;
    const start = performance.now();
    do await new Promise(resolve => setImmediate(resolve));
    while (performance.now() - start < 5);
  }
}
