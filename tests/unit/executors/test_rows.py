"""The executor's rows: what they remember between steps, and how a plan becomes packed inputs."""

from __future__ import annotations

import numpy as np

from runtime.executors.rows import RowTable, StepInputs
from runtime.request import SamplingParams
from runtime.scheduler import Logits, RowStart, RowWork, StepPlan

BLOCK_SIZE = 4


def table() -> RowTable:
    return RowTable(3, 16, BLOCK_SIZE)


def begin(rows: RowTable, row: int, tokens: list[int], computed: int = 0, blocks: list[int] | None = None) -> None:
    rows.start(RowStart(row, tokens, len(tokens), computed, blocks or [], SamplingParams()))


def work(row: int, count: int, logits: Logits = Logits.LAST) -> RowWork:
    return RowWork(row, count, [], logits, samples=logits is Logits.LAST)


def pack(rows: RowTable, *items: RowWork) -> StepInputs:
    return rows.pack(StepPlan(work=list(items)))


def test_chunks_and_decodes_are_packed_side_by_side_in_the_plans_order() -> None:
    rows = table()
    begin(rows, 0, [10, 11, 12, 13, 14, 15], computed=4, blocks=[7, 3])
    begin(rows, 1, [20, 21, 22], blocks=[5])
    begin(rows, 2, [30, 31, 32, 33, 34, 35, 36, 37, 38], computed=8, blocks=[1, 2, 9])
    inputs = pack(rows, work(2, 1), work(0, 2, Logits.NONE), work(1, 3, Logits.ALL))
    assert inputs.token_ids.tolist() == [38, 14, 15, 20, 21, 22]
    assert inputs.cu_seqlens.tolist() == [0, 1, 3, 6]
    assert inputs.past_lens.tolist() == [8, 4, 0]
    assert inputs.block_table.tolist() == [[1, 2, 9], [7, 3, -1], [5, -1, -1]]
    assert inputs.logits_rows.tolist() == [0, 3, 4, 5]


def test_inputs_have_the_contracts_types_and_no_gaps() -> None:
    rows = table()
    begin(rows, 1, [20, 21, 22], blocks=[5])
    inputs = pack(rows, work(1, 2))
    arrays = (inputs.token_ids, inputs.cu_seqlens, inputs.past_lens, inputs.block_table, inputs.logits_rows)
    assert [array.dtype for array in arrays] == [np.int64, np.int32, np.int32, np.int32, np.int64]
    assert all(array.flags.c_contiguous for array in arrays)
    assert inputs.block_table.shape == (1, 1), "no wider than the step's longest row"


def test_each_row_is_asked_for_no_its_last_or_all_of_its_logits() -> None:
    rows = table()
    for row in range(3):
        begin(rows, row, [1, 2, 3, 4], blocks=[row])
    for wanted, places in [
        ((Logits.NONE, Logits.NONE, Logits.NONE), []),
        ((Logits.LAST, Logits.NONE, Logits.LAST), [2, 8]),
        ((Logits.ALL, Logits.LAST, Logits.NONE), [0, 1, 2, 5]),
        ((Logits.NONE, Logits.ALL, Logits.ALL), [3, 4, 5, 6, 7, 8]),
    ]:
        inputs = pack(rows, *(work(row, 3, logits) for row, logits in enumerate(wanted)))
        assert inputs.logits_rows.tolist() == places


def test_a_row_goes_on_where_it_was_advanced_to_with_what_was_appended() -> None:
    rows = table()
    begin(rows, 1, [20, 21, 22], blocks=[5])
    chunk = [work(1, 3)]
    assert pack(rows, *chunk).token_ids.tolist() == [20, 21, 22]
    assert pack(rows, *chunk).token_ids.tolist() == [20, 21, 22], "packing alone does not advance"
    rows.advance(chunk)
    rows.append(1, 23)
    rows.append(1, 24)
    rows.extend(1, [8])
    inputs = pack(rows, work(1, 2))
    assert inputs.token_ids.tolist() == [23, 24]
    assert inputs.past_lens.tolist() == [3]
    assert inputs.block_table.tolist() == [[5, 8]]


def test_blocks_are_appended_in_order_and_none_is_nothing() -> None:
    rows = table()
    begin(rows, 0, [1] * 13, blocks=[6])
    for blocks in ([], [4, 9], [], [2]):
        rows.extend(0, blocks)
    assert pack(rows, work(0, 13)).block_table.tolist() == [[6, 4, 9, 2]]


def test_a_row_that_starts_again_has_forgotten_who_had_it_before() -> None:
    rows = table()
    begin(rows, 0, [1] * 13, computed=12, blocks=[6, 4, 9, 2])
    rows.append(0, 5)
    begin(rows, 0, [8, 9], computed=1, blocks=[3])
    rows.append(0, 7)
    inputs = pack(rows, work(0, 2))
    assert inputs.token_ids.tolist() == [9, 7]
    assert inputs.past_lens.tolist() == [1]
    assert inputs.block_table.tolist() == [[3]]


def test_a_draft_runs_behind_what_is_known_and_leaves_only_what_was_right() -> None:
    rows = table()
    begin(rows, 0, [10, 11, 12, 13, 14, 15, 16], computed=6, blocks=[7, 3])
    begin(rows, 1, [20, 21], computed=1, blocks=[5])
    rows.extend(0, [8])
    rows.draft(0, (17, 18, 19))
    items = [RowWork(0, 4, [8], Logits.LAST, samples=True, draft=(17, 18, 19)), work(1, 1)]
    inputs = pack(rows, *items)
    assert inputs.token_ids.tolist() == [16, 17, 18, 19, 21]
    assert inputs.logits_rows.tolist() == [0, 1, 2, 3, 4], "each place of a draft is sampled"
    assert inputs.block_table.tolist() == [[7, 3, 8], [5, -1, -1]]
    rows.advance(items)
    rows.append([0, 1], [17, 22])
    rows.accept([0])
    rows.append([0], [30])
    rows.trim(0)
    after = pack(rows, work(0, 1), work(1, 1))
    assert after.token_ids.tolist() == [30, 22]
    assert after.past_lens.tolist() == [8, 2]
    assert after.block_table.tolist() == [[7, 3], [5, -1]], "the third block went back"


def test_a_row_has_room_for_its_longest_sequence_and_the_token_sampled_after_it() -> None:
    rows = table()
    begin(rows, 2, [1] * 16, computed=15, blocks=[1, 2, 3, 4])
    rows.append(2, 9)
    assert pack(rows, work(2, 2)).token_ids.tolist() == [1, 9]
