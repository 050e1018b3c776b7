#include "fuseline/comparison/charts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>

namespace fuseline {
namespace {

constexpr double kPanelWidth = 420, kPanelHeight = 250;
constexpr double kLeft = 62, kRight = 14, kTop = 34, kBottom = 40;  // Around the plotted area of a panel.
constexpr double kLegendHeight = 22;
constexpr double kRowHeight = 30;  // Of an algorithm in the chart of the judgement.
// Okabe and Ito's colours, which the colour-blind tell apart, and two more.
constexpr std::array kColours{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933", "#882255", "#777777"};

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string Label(double value, double step) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3, value);
  return text;
}

std::string Escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') escaped += "&amp;";
    else if (c == '<') escaped += "&lt;";
    else if (c == '>') escaped += "&gt;";
    else if (c == '"') escaped += "&quot;";
    else escaped += c;
  }
  return escaped;
}

std::string Words(double x, double y, const std::string& words, const std::string& anchor = "start", int size = 11) {
  return "<text x=\"" + Number(x) + "\" y=\"" + Number(y) + "\" font-size=\"" + std::to_string(size) + "\" text-anchor=\"" + anchor + "\">" +
         Escaped(words) + "</text>\n";
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& style) {
  return "<line x1=\"" + Number(x1) + "\" y1=\"" + Number(y1) + "\" x2=\"" + Number(x2) + "\" y2=\"" + Number(y2) + "\" " + style + "/>\n";
}

std::string Document(double width, double height, const std::string& body) {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + Number(width) + "\" height=\"" + Number(height) + "\" viewBox=\"0 0 " +
         Number(width) + " " + Number(height) + "\" font-family=\"sans-serif\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n" +
         body + "</svg>\n";
}

// A range of values with room, and ticks at round numbers.
struct Axis {
  double low = 0, high = 1;

  void Take(double value) {
    if (!std::isfinite(value)) return;
    low = empty ? value : std::min(low, value);
    high = empty ? value : std::max(high, value);
    empty = false;
  }
  void Widen() {
    const double room = high > low ? 0.05 * (high - low) : std::max(1e-3, 0.05 * std::abs(high));
    low -= room;
    high += room;
  }
  double Share(double value) const { return (value - low) / (high - low); }
  double step() const {
    const double raw = (high - low) / 5, decade = std::pow(10, std::floor(std::log10(raw)));
    for (const double round : {1.0, 2.0, 5.0}) {
      if (raw <= round * decade) return round * decade;
    }
    return 10 * decade;
  }
  bool empty = true;
};

struct Series {
  std::vector<double> x, mean, lower, upper;
  std::vector<std::vector<double>> seeds;  // Each over x.
};

// One measure over finished sessions, drawn at (left, top) of its panel.
class Panel {
 public:
  Panel(double left, double top, std::string title) : left_(left + kLeft), top_(top + kTop), title_(std::move(title)) {}

  void Add(const Series& series) {
    for (const double x : series.x) x_.Take(x);
    for (const auto* values : {&series.mean, &series.lower, &series.upper}) {
      for (const double value : *values) y_.Take(value);
    }
    for (const auto& seed : series.seeds) {
      for (const double value : seed) y_.Take(value);
    }
    series_.push_back(series);
  }
  void AddLevel(double value, std::string name) {
    y_.Take(value);
    levels_.emplace_back(value, std::move(name));
  }

  std::string Draw() {
    x_.Take(0);
    y_.Widen();
    std::string svg = Words(left_, top_ - 14, title_, "start", 13) + Frame();
    for (const auto& [value, name] : levels_) {
      svg += Line(left_, Y(value), left_ + Width(), Y(value), "stroke=\"#555\" stroke-dasharray=\"5 4\"") +
             Words(left_ + Width() - 4, Y(value) - 4, name, "end", 10);
    }
    for (std::size_t i = 0; i < series_.size(); ++i) svg += Draw(series_[i], kColours[i % kColours.size()]);
    return svg;
  }

 private:
  static double Width() { return kPanelWidth - kLeft - kRight; }
  static double Height() { return kPanelHeight - kTop - kBottom; }
  double X(double value) const { return left_ + Width() * x_.Share(value); }
  double Y(double value) const { return top_ + Height() * (1 - y_.Share(value)); }

  std::string Frame() const {
    std::string svg = "<rect x=\"" + Number(left_) + "\" y=\"" + Number(top_) + "\" width=\"" + Number(Width()) + "\" height=\"" +
                      Number(Height()) + "\" fill=\"none\" stroke=\"#999\"/>\n";
    for (double y = std::ceil(y_.low / y_.step()) * y_.step(); y <= y_.high; y += y_.step()) {
      svg += Line(left_, Y(y), left_ + Width(), Y(y), "stroke=\"#eee\"") + Words(left_ - 6, Y(y) + 4, Label(y, y_.step()), "end", 10);
    }
    for (double x = 0; x <= x_.high; x += x_.step()) svg += Words(X(x), top_ + Height() + 15, Label(x, x_.step()), "middle", 10);
    return svg + Words(left_ + Width() / 2, top_ + Height() + 31, "finished sessions", "middle", 10);
  }

  std::string Path(const std::vector<double>& x, const std::vector<double>& y) const {
    std::string path;
    for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) path += (i == 0 ? "M" : "L") + Number(X(x[i])) + " " + Number(Y(y[i]));
    return path;
  }

  std::string Draw(const Series& series, const std::string& colour) const {
    if (series.x.empty()) return "";
    std::vector<double> x = series.x, band = series.upper;
    x.insert(x.end(), series.x.rbegin(), series.x.rend());
    band.insert(band.end(), series.lower.rbegin(), series.lower.rend());
    std::string svg = "<path d=\"" + Path(x, band) + "Z\" fill=\"" + colour + "\" fill-opacity=\"0.12\"/>\n";
    for (const auto& seed : series.seeds) {
      svg += "<path d=\"" + Path(series.x, seed) + "\" fill=\"none\" stroke=\"" + colour + "\" stroke-opacity=\"0.35\" stroke-width=\"0.7\"/>\n";
    }
    return svg + "<path d=\"" + Path(series.x, series.mean) + "\" fill=\"none\" stroke=\"" + colour + "\" stroke-width=\"2\"/>\n";
  }

  double left_, top_;
  std::string title_;
  Axis x_, y_;
  std::vector<Series> series_;
  std::vector<std::pair<double, std::string>> levels_;
};

struct Measure {
  const char* title;
  MeanInterval CurveSummary::* over_seeds;
  double (*of_point)(const CurvePoint&);
};
constexpr std::array kMeasures{
    Measure{"mean return of a session, exploring", &CurveSummary::mean_return, [](const CurvePoint& p) { return p.figures.mean_return; }},
    Measure{"valid consumptions a session", &CurveSummary::valid, [](const CurvePoint& p) { return p.figures.valid; }},
    Measure{"seconds watched a session", &CurveSummary::watch_s, [](const CurvePoint& p) { return p.figures.watch_s; }},
    Measure{"share of versions accepted", &CurveSummary::accepted_share, [](const CurvePoint& p) { return p.accepted_share; }}};

Series SeriesOf(const std::vector<RunRecord>& runs, const std::string& algorithm, const Measure& measure) {
  Series series;
  for (const CurveSummary& point : SummariseCurve(runs, algorithm)) {
    const MeanInterval& interval = point.*measure.over_seeds;
    series.x.push_back(point.sessions);
    series.mean.push_back(interval.mean);
    series.lower.push_back(interval.lower);
    series.upper.push_back(interval.upper);
  }
  for (const RunRecord& run : runs) {
    if (run.algorithm != algorithm) continue;
    auto& values = series.seeds.emplace_back();
    for (std::size_t i = 0; i < series.x.size(); ++i) values.push_back(measure.of_point(run.curve[i]));
  }
  return series;
}

}  // namespace

std::string CurvesSvg(const std::vector<RunRecord>& runs, const ComparisonSummary& summary) {
  const double legend_rows = std::ceil(static_cast<double>(summary.algorithms.size()) / 5);
  const double below = 10 + kLegendHeight * legend_rows;
  std::string svg;
  for (std::size_t i = 0; i < kMeasures.size(); ++i) {
    Panel panel(kPanelWidth * static_cast<double>(i % 2), below + kPanelHeight * static_cast<double>(i / 2), kMeasures[i].title);
    for (const AlgorithmSummary& one : summary.algorithms) panel.Add(SeriesOf(runs, one.algorithm, kMeasures[i]));
    if (i == 0) {
      panel.AddLevel(summary.fixed.mean_return.interval.mean, "static, judged");
      panel.AddLevel(summary.best.mean_return.interval.mean, summary.best_is_optimal ? "optimum, judged" : "best known, judged");
    }
    svg += panel.Draw();
  }
  for (std::size_t i = 0; i < summary.algorithms.size(); ++i) {
    const double x = 20 + 160 * static_cast<double>(i % 5), y = 18 + kLegendHeight * static_cast<double>(i / 5);
    svg += Line(x, y - 4, x + 20, y - 4, std::string("stroke-width=\"3\" stroke=\"") + kColours[i % kColours.size()] + "\"") +
           Words(x + 26, y, summary.algorithms[i].algorithm);
  }
  return Document(2 * kPanelWidth, below + 2 * kPanelHeight, svg);
}

std::string GapClosedSvg(const ComparisonSummary& summary) {
  Axis axis;
  for (const double value : {0.0, 100.0}) axis.Take(value);
  for (const AlgorithmSummary& one : summary.algorithms) {
    for (const double value : {one.gap_closed.interval.lower, one.gap_closed.interval.upper}) axis.Take(100 * value);
    for (const double value : one.gap_closed.values) axis.Take(100 * value);
  }
  axis.Widen();
  constexpr double kNames = 120, kWidth = 640;
  const double height = kRowHeight * static_cast<double>(summary.algorithms.size());
  const auto x_of = [&](double percent) { return kNames + (kWidth - kNames - 20) * axis.Share(percent); };
  std::string svg = Words(kNames, 20, "gap closed between static weights (0) and " +
                                          std::string(summary.best_is_optimal ? "the known optimum (100)" : "the best policy known (100)") + ", %");
  for (double x = std::ceil(axis.low / axis.step()) * axis.step(); x <= axis.high; x += axis.step()) {
    svg += Line(x_of(x), kTop, x_of(x), kTop + height, "stroke=\"#ddd\"") + Words(x_of(x), kTop + height + 16, Label(x, axis.step()), "middle", 10);
  }
  for (std::size_t i = 0; i < summary.algorithms.size(); ++i) {
    const AlgorithmSummary& one = summary.algorithms[i];
    const std::string colour = kColours[i % kColours.size()];
    const double y = kTop + kRowHeight * (static_cast<double>(i) + 0.5);
    const MeanInterval& gap = one.gap_closed.interval;
    svg += Words(kNames - 10, y + 4, one.algorithm, "end") +
           Line(x_of(100 * gap.lower), y, x_of(100 * gap.upper), y, "stroke-width=\"3\" stroke=\"" + colour + "\"") +
           Line(x_of(100 * gap.mean), y - 8, x_of(100 * gap.mean), y + 8, "stroke-width=\"3\" stroke=\"" + colour + "\"");
    for (const double value : one.gap_closed.values) {
      svg += "<circle cx=\"" + Number(x_of(100 * value)) + "\" cy=\"" + Number(y) + "\" r=\"3.5\" fill=\"#fff\" stroke=\"" + colour + "\"/>\n";
    }
  }
  return Document(kWidth, kTop + height + 30, svg);
}

}  // namespace fuseline
