export function onMessage(): void {}
export function onOpen(): void {}
