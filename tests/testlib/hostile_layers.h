// Layers that would reach outside of their directory, each to be refused by an entry's name.
#pragma once

#include <string>
#include <vector>

namespace layerfs::testing {

struct HostileLayer {
  std::vector<std::string> words;  // as tar_text() takes them
  std::string named;               // in the message
};

inline const std::vector<HostileLayer>& hostile_layers() {
  static const std::vector<HostileLayer> layers = {
      {{"/abs=1"}, "/abs"},
      {{"../outside/new=1"}, "../outside/new"},
      {{"a/../../outside/new=1"}, "a/../../outside/new"},
      {{"a/", "a/..=1"}, "a/.."},
      {{"..->x"}, ".."},
      {{".->/etc"}, "."},
      {{"s->../outside", "s/new=1"}, "s/new"},
      {{"s->../outside", "s/d/"}, "s/d"},
      {{"s->../outside", "s/d/deep/new=1"}, "s/d/deep/new"},
      {{"s->../outside", "s/.wh.file="}, "s/.wh.file"},
      {{"s->../outside", "s/.wh..wh..opq="}, "s/.wh..wh..opq"},
      {{"s->../outside", "s/p|"}, "s/p"},
      {{"s->../outside", "s/"}, "s"},
      {{"s->../outside/file", "s=1"}, "s"},
      {{"d/", "d/x=1", "s->d", "s/y=1"}, "s/y"},
      {{"f=1", "f/x=1"}, "f/x"},
      {{"h==../outside/file"}, "h"},
      {{"h==/etc/passwd"}, "h"},
      {{"h==missing"}, "h"},
      {{"h==h"}, "h"},
      {{"d/", "h==d"}, "h"},
      {{"h==."}, "h"},
      {{"s->../outside", "h==s/file"}, "h"},
      {{"s->../outside/file", "h==s", "h=1"}, "h"},
      {{".wh.x=", "h==.wh.x"}, "h"},
      {{".wh.="}, ".wh."},
      {{".wh..="}, ".wh.."},
      {{".wh...="}, ".wh..."},
      {{"d/", "d/.wh...="}, "d/.wh..."},
      {{".wh.x/"}, ".wh.x/"},
      {{".wh.x->y"}, ".wh.x"},
      {{"f=1", ".wh.x==f"}, ".wh.x"},
      {{".wh.x/y=1"}, ".wh.x/y"},
      {{"f=1", "f=2"}, "f"},
      {{"f=1", "f->x"}, "f"},
      {{"d/", "d/"}, "d"},
      {{"./", "./"}, "/"},
      {{".wh.x=", ".wh.x="}, ".wh.x"},
      {{"c%c0.0"}, "c"},
      {{"c%c5000.1"}, "c"},
      {{"b%b1.2000000"}, "b"},
      {{std::string(256, 'n') + "=1"}, std::string(256, 'n')},
  };
  return layers;
}

}  // namespace layerfs::testing
