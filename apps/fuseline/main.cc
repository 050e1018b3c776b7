#include "command.h"

int main(int argc, char** argv) {
  fuseline::Program program;
  fuseline::RegisterRun(program);
  fuseline::RegisterSessionize(program);
  fuseline::RegisterLearn(program);
  fuseline::RegisterReplay(program);
  fuseline::RegisterDemo(program);
  fuseline::RegisterCompare(program);
  fuseline::RegisterStatus(program);
  fuseline::RegisterVersions(program);
  fuseline::RegisterTrainScorer(program);
  fuseline::RegisterWorld(program);
  fuseline::RegisterSessions(program);
  fuseline::RegisterExplain(program);
  fuseline::RegisterDeadLetters(program);
  fuseline::RegisterAssign(program);
  fuseline::RegisterExperiment(program);
  fuseline::RegisterConfig(program);
  fuseline::RegisterEvaluate(program);
  fuseline::RegisterEvents(program);
  fuseline::RegisterImport(program);
  fuseline::RegisterBroker(program);
  return program.Run(argc, argv);
}
