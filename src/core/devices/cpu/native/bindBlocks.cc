/** Blocks of a weight: tables are checked entry by entry before a kernel sees them. */
#include <algorithm>
#include <vector>

#include "arguments.h"

namespace sparse_tuner {

namespace {

/** Blocks of one slice formed by one task; more would leave threads without work. */
constexpr size_t blocksPerGroup = 8;

/** Reads a block table and checks each rectangle against the weight (rows × columns), the flat tensor and the gathered slices. */
const Block* readBlocks(Arguments& a, size_t& count, size_t rows, size_t columns, size_t flat, size_t gathered) {
  size_t length;
  const int32_t* table = a.table(length);
  static_assert(sizeof(Block) == 6 * sizeof(int32_t), "the layout of a block table");
  if (length % 6 != 0) throw ArgumentError("a block table has six integers a block");
  count = length / 6;
  const Block* blocks = reinterpret_cast<const Block*>(table);
  for (size_t i = 0; i < count; i++) {
    const Block& b = blocks[i];
    const bool inside = b.rowStart >= 0 && b.rowCount > 0 && size_t(b.rowStart) + size_t(b.rowCount) <= rows && b.columnStart >= 0 && b.columnCount > 0 &&
                        size_t(b.columnStart) + size_t(b.columnCount) <= columns;
    const bool stored = b.offset >= 0 && size_t(b.offset) + size_t(b.rowCount) * size_t(b.columnCount) <= flat;
    const bool sliced = gathered == SIZE_MAX || (b.sliceStart >= 0 && size_t(b.sliceStart) + size_t(b.columnCount) <= gathered);
    if (!inside || !stored || !sliced) throw ArgumentError("block " + std::to_string(i) + " lies outside its tensors");
  }
  return blocks;
}

/** gatherColumns(device, rows, columns, gathered, out, x, table) */
void gatherColumns(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), gathered = a.size();
  const Matrix out = a.matrix(rows, gathered), x = a.matrix(rows, columns);
  size_t length;
  const int32_t* table = a.table(length);
  size_t total = 0;
  for (size_t i = 0; i + 1 < length; i += 2) {
    if (table[i] < 0 || table[i + 1] < 0 || size_t(table[i]) + size_t(table[i + 1]) > columns) throw ArgumentError("a column range lies outside the tensor");
    total += size_t(table[i + 1]);
  }
  if (length % 2 != 0 || total != gathered) throw ArgumentError("the column ranges do not fill the gathered tensor");
  device.kernels().gatherColumns(device.context, out, x, rows, table, length / 2);
}

/** gatherBlocks(device, rows, columns, flat, out, weight, table) */
void gatherBlocks(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), flat = a.size();
  float* out = a.f32(flat);
  const Matrix weight = a.matrix(rows, columns);
  size_t count;
  const Block* blocks = readBlocks(a, count, rows, columns, flat, SIZE_MAX);
  device.kernels().gatherBlocks(device.context, out, weight, blocks, count);
}

/** scatterBlocks(device, rows, columns, flat, weight, values, table) */
void scatterBlocks(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), flat = a.size();
  const Matrix weight = a.matrix(rows, columns);
  const float* values = a.f32(flat);
  size_t count;
  const Block* blocks = readBlocks(a, count, rows, columns, flat, SIZE_MAX);
  device.kernels().scatterBlocks(device.context, weight, values, blocks, count);
}

/** blockGradients(device, tokens, rows, gathered, flat, dBlocks, dOut, slices, table) */
void blockGradients(Arguments& a) {
  Device& device = a.device();
  const size_t tokens = a.size(), rows = a.size(), gathered = a.size(), flat = a.size();
  float* dBlocks = a.f32(flat);
  const Matrix dOut = a.matrix(tokens, rows), slices = a.matrix(tokens, gathered);
  size_t count;
  const Block* blocks = readBlocks(a, count, rows, size_t(INT32_MAX), flat, gathered);
  if (count == 0 || tokens == 0) return;
  // Blocks of the same slice side by side, so that it is packed once for several of them.
  std::vector<int32_t> order(count), groups;
  for (size_t i = 0; i < count; i++) order[i] = int32_t(i);
  const auto slice = [&](int32_t i) { return std::pair(blocks[i].sliceStart, blocks[i].columnCount); };
  std::sort(order.begin(), order.end(), [&](int32_t i, int32_t j) { return slice(i) != slice(j) ? slice(i) < slice(j) : blocks[i].offset < blocks[j].offset; });
  for (size_t i = 0; i < count; i++) {
    if (i == 0 || slice(order[i]) != slice(order[i - 1]) || i - size_t(groups.back()) >= blocksPerGroup) groups.push_back(int32_t(i));
  }
  groups.push_back(int32_t(count));
  device.kernels().blockGradients(device.context, dBlocks, dOut, slices, tokens, blocks, order.data(), groups.data(), groups.size() - 1);
}

size_t blocksAlong(size_t length, size_t blockSize) { return (length + blockSize - 1) / blockSize; }

/** blockScores(device, tokens, rows, columns, blockSize, scores, dOut, x, signed) */
void blockScores(Arguments& a) {
  Device& device = a.device();
  const size_t tokens = a.size(), rows = a.size(), columns = a.size(), blockSize = a.size();
  if (blockSize == 0) throw ArgumentError("the block size must be positive");
  float* scores = a.f32(Arguments::product(blocksAlong(rows, blockSize), blocksAlong(columns, blockSize)));
  const Matrix dOut = a.matrix(tokens, rows), x = a.matrix(tokens, columns);
  const bool isSigned = a.flag();
  if (tokens == 0) return;
  device.kernels().blockScores(device.context, scores, dOut, x, tokens, rows, columns, blockSize, isSigned);
}

/** blockMeans(device, rows, columns, blockSize, scores, x, mean, columnScale | null) */
void blockMeans(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), blockSize = a.size();
  if (blockSize == 0) throw ArgumentError("the block size must be positive");
  if (blocksAlong(columns, blockSize) > threadScratchBytes / sizeof(double)) throw ArgumentError("more blocks in a row than the device has scratch for");
  float* scores = a.f32(Arguments::product(blocksAlong(rows, blockSize), blocksAlong(columns, blockSize)));
  const Matrix x = a.matrix(rows, columns);
  const int64_t mean = a.integer();
  if (mean < 0 || mean > 2) throw ArgumentError("unknown mean");
  const float* columnScale = a.isNull() ? nullptr : a.f32(columns);
  if (BlockMean(mean) == BlockMean::squareScaled && !columnScale) throw ArgumentError("squareScaled needs a column scale");
  device.kernels().blockMeans(device.context, scores, x, rows, columns, blockSize, BlockMean(mean), columnScale);
}

/** columnSumSquares(device, rows, columns, sums, x) */
void columnSumSquares(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size();
  float* sums = a.f32(columns);
  device.kernels().columnSumSquares(device.context, sums, a.floats(Arguments::product(rows, columns)), rows, columns);
}

}  // namespace

void exportBlocks(napi_env env, napi_value exports) {
  exportFunction(env, exports, "gatherColumns", call<gatherColumns>);
  exportFunction(env, exports, "gatherBlocks", call<gatherBlocks>);
  exportFunction(env, exports, "scatterBlocks", call<scatterBlocks>);
  exportFunction(env, exports, "blockGradients", call<blockGradients>);
  exportFunction(env, exports, "blockScores", call<blockScores>);
  exportFunction(env, exports, "blockMeans", call<blockMeans>);
  exportFunction(env, exports, "columnSumSquares", call<columnSumSquares>);
}

}  // namespace sparse_tuner
