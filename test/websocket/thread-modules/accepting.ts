export function onMessage(): void {}
export function accept(): boolean {
  return true;
}
