export function onMessage(): void {}

export const onClose = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 100_000));
