/* A pretend libnvidia-ml.so.1: what a driver answers is set by environment variables, so tests can be any machine.
 *
 * GPUS, MEMORY_MIB, USED_MIB, LOAD, HEAT_C, POWER_MW: numbers. FAIL: "<function>=<code>" entries with ';' between them;
 * that function then returns that code. PROCESSES: "<pid>:<MiB>" entries with ';', in every GPU's list of computing ones.
 * Each name is preceded by NVML_STUB_. Codes are nvml.h's: 3 not supported, 9 driver not loaded, 15 GPU is lost.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB 1048576ULL
typedef int nvmlReturn;
typedef void *nvmlDevice;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute_instance; } Process;

static const char *text(const char *name) {
  char full[64];
  snprintf(full, sizeof full, "NVML_STUB_%s", name);
  return getenv(full);
}

static unsigned long long number(const char *name, unsigned long long otherwise) {
  const char *value = text(name);
  return value ? strtoull(value, NULL, 10) : otherwise;
}

static nvmlReturn failure(const char *function) {
  const char *entry = text("FAIL");
  size_t length = strlen(function);
  while (entry && *entry) {
    if (!strncmp(entry, function, length) && entry[length] == '=') return atoi(entry + length + 1);
    entry = strchr(entry, ';');
    if (entry) entry++;
  }
  return 0;
}

#define FAIL_IF_TOLD(function) do { nvmlReturn code = failure(function); if (code) return code; } while (0)

nvmlReturn nvmlInitWithFlags(unsigned flags) { (void)flags; return failure("init"); }
nvmlReturn nvmlInit_v2(void) { return failure("init"); }
nvmlReturn nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(nvmlReturn code) { (void)code; return "as the stub was told"; }

nvmlReturn nvmlDeviceGetCount_v2(unsigned *count) {
  FAIL_IF_TOLD("count");
  *count = number("GPUS", 1);
  return 0;
}

nvmlReturn nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice *device) {
  FAIL_IF_TOLD("handle");
  *device = (nvmlDevice)(unsigned long)(index + 1);
  return 0;
}

nvmlReturn nvmlDeviceGetName(nvmlDevice device, char *name, unsigned size) {
  FAIL_IF_TOLD("name");
  snprintf(name, size, "Pretend GPU %lu", (unsigned long)device - 1);
  return 0;
}

nvmlReturn nvmlDeviceGetMemoryInfo(nvmlDevice device, Memory *memory) {
  FAIL_IF_TOLD("memory");
  if ((unsigned long)device == 2) FAIL_IF_TOLD("memory_of_second");
  memory->total = number("MEMORY_MIB", 24576) * MIB;
  memory->used = number("USED_MIB", 1024) * MIB;
  memory->free = memory->total - memory->used;
  return 0;
}

nvmlReturn nvmlDeviceGetUtilizationRates(nvmlDevice device, Utilization *rates) {
  (void)device;
  FAIL_IF_TOLD("load");
  rates->gpu = number("LOAD", 37);
  rates->memory = 12;
  return 0;
}

nvmlReturn nvmlDeviceGetTemperature(nvmlDevice device, int sensor, unsigned *degrees) {
  (void)device, (void)sensor;
  FAIL_IF_TOLD("heat");
  *degrees = number("HEAT_C", 55);
  return 0;
}

nvmlReturn nvmlDeviceGetPowerUsage(nvmlDevice device, unsigned *milliwatts) {
  (void)device;
  FAIL_IF_TOLD("power");
  *milliwatts = number("POWER_MW", 120500);
  return 0;
}

nvmlReturn nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice device, unsigned *count, Process *found) {
  (void)device;
  FAIL_IF_TOLD("processes");
  unsigned room = *count;
  const char *entry = text("PROCESSES");
  for (*count = 0; entry && *entry; ++*count) {
    if (*count < room) {
      char *rest;
      found[*count] = (Process){.pid = strtoul(entry, &rest, 10)};
      found[*count].used = *rest == ':' ? strtoull(rest + 1, NULL, 10) * MIB : 0;
    }
    entry = strchr(entry, ';');
    if (entry) entry++;
  }
  return *count > room ? 7 : 0; /* 7: insufficient size */
}
