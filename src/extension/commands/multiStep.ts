/**
 * A sequence of questions in quick picks and input boxes, with step numbers and a back button. It knows nothing of what is asked.
 * The rule to keep: going back keeps what was answered; Escape ends it without any effect.
 */
import * as vscode from "vscode";

export const back = Symbol("back");
export type Answer<T> = T | typeof back | undefined;

/** Where a question stands. */
export interface Place {
  title: string;
  step: number;
  totalSteps: number;
}

/** Asks, and puts the answer into the state; true when it was answered. */
export interface Step<State> {
  applies?(state: State): boolean;
  ask(state: State, place: Place): Promise<Answer<true>>;
}

/** Asks one after another; false when the person gave up. */
export async function askAll<State>(title: string, steps: readonly Step<State>[], state: State): Promise<boolean> {
  let index = 0;
  while (index < steps.length) {
    const applying = steps.filter((step) => step.applies?.(state) ?? true);
    const step = steps[index];
    if (!applying.includes(step)) {
      index++;
      continue;
    }
    const place = { title, step: applying.indexOf(step) + 1, totalSteps: applying.length };
    const answer = await step.ask(state, place);
    if (answer === undefined) return false;
    index = answer === back ? steps.indexOf(applying[applying.indexOf(step) - 1]) : index + 1;
  }
  return true;
}

export interface PickOptions<Item> extends Place {
  placeholder: string;
  items: readonly Item[] | Promise<readonly Item[]>;
  active?: (item: Item) => boolean;
}

/** A quick pick; items that are still looked for show as busy. */
export function pickStep<Item extends vscode.QuickPickItem>(options: PickOptions<Item>): Promise<Answer<Item>> {
  const pick = openPick<Item>(options);
  return settled(pick, (resolve) => pick.onDidAccept(() => pick.selectedItems[0] && resolve(pick.selectedItems[0])));
}

function openPick<Item extends vscode.QuickPickItem>(options: PickOptions<Item>): vscode.QuickPick<Item> {
  const pick = vscode.window.createQuickPick<Item>();
  pick.title = options.title;
  pick.step = options.step;
  pick.totalSteps = options.totalSteps;
  pick.placeholder = options.placeholder;
  pick.matchOnDescription = true;
  pick.matchOnDetail = true;
  pick.ignoreFocusOut = true;
  pick.buttons = options.step > 1 ? [vscode.QuickInputButtons.Back] : [];
  pick.busy = true;
  void Promise.resolve(options.items).then((items) => {
    pick.items = items;
    pick.activeItems = items.filter((item) => options.active?.(item)).slice(0, 1);
    // VS Code itself looks at `picked` only where it makes the pick.
    if (pick.canSelectMany) pick.selectedItems = items.filter(({ picked }) => picked);
    pick.busy = false;
  });
  return pick;
}

/** A quick pick of several; it is not accepted while none is picked. */
export function pickManyStep<Item extends vscode.QuickPickItem>(options: PickOptions<Item>): Promise<Answer<readonly Item[]>> {
  const pick = openPick<Item>(options);
  pick.canSelectMany = true;
  return settled(pick, (resolve) => pick.onDidAccept(() => pick.selectedItems.length > 0 && resolve(pick.selectedItems)));
}

export interface InputOptions extends Place {
  prompt: string;
  value: string;
  /** Why a value cannot be taken; null when it can. */
  problem(value: string): string | null;
}

/** An input box. */
export function inputStep(options: InputOptions): Promise<Answer<string>> {
  const input = vscode.window.createInputBox();
  input.title = options.title;
  input.step = options.step;
  input.totalSteps = options.totalSteps;
  input.prompt = options.prompt;
  input.value = options.value;
  input.ignoreFocusOut = true;
  input.buttons = options.step > 1 ? [vscode.QuickInputButtons.Back] : [];
  const check = (value: string) => {
    input.validationMessage = options.problem(value) ?? undefined;
  };
  input.onDidChangeValue(check);
  return settled(input, (resolve) =>
    input.onDidAccept(() => {
      check(input.value);
      if (!input.validationMessage) resolve(input.value);
    }),
  );
}

function settled<T>(
  input: vscode.QuickPick<vscode.QuickPickItem> | vscode.InputBox,
  accept: (resolve: (answer: T) => void) => void,
): Promise<Answer<T>> {
  return new Promise<Answer<T>>((resolve) => {
    accept(resolve);
    input.onDidTriggerButton((button) => {
      if (button === vscode.QuickInputButtons.Back) resolve(back);
    });
    input.onDidHide(() => resolve(undefined));
    input.show();
  }).finally(() => input.dispose());
}
