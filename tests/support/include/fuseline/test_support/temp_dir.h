#pragma once

#include <string>

namespace fuseline::test {

// A fresh folder under $TMPDIR or /tmp, removed with everything in it when the object goes.
// FUSELINE_KEEP_TEMP=1 keeps it and prints its path, to look at after a failure.
class TempDir {
 public:
  TempDir();  // Ends the process, with a message, if no folder can be made: no test can go on.
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  // Returns path()/`name`; creates nothing.
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace fuseline::test
