/* A libnvidia-ml.so.1 that is any machine: it speaks the C interface of nvml.h and answers from a text file.
 *
 * STATE, given to the compiler, is the file; it is read at every call, so a test may change the machine while it is
 * looked at. A line is "KEY VALUE"; keys of a GPU begin with its index ("0 used_mib 512"), those of an instance that it
 * is cut into with index and place ("0.2 total_mib 4096"). What no line says, the driver does not support (3).
 *
 *   driver, gpus                        of the machine
 *   name, uuid, total_mib, used_mib, reserved_mib, load, heat_c, power_mw, limit_mw, mig (places for instances)
 *   computing, drawing, sharing         processes, "PID:MIB PID:? ..." ('?': the driver does not say how much)
 *   fail CALL CODE                      that call returns that code, of every GPU or of one
 *   hang CALL                           that call never comes back
 *
 * CALL is the name in nvml.h without "nvml" and "_v2". With OLD the library lacks what came with driver 510.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB 1048576ULL
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define LINE 1024

typedef int Return;
typedef void *Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version; int sensor, temperature; } Temperature;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute_instance; } Process;

static Device device(int gpu, int part) { return (Device)(unsigned long)((gpu + 1) << 8 | (part + 1)); }
static int gpu_of(Device d) { return (int)((unsigned long)d >> 8) - 1; }
static int part_of(Device d) { return (int)((unsigned long)d & 255) - 1; }

/* The rest of the first line that begins with this key; NULL if there is none. */
static const char *line_of(const char *key, char *line) {
  FILE *file = fopen(STATE, "r");
  size_t length = strlen(key);
  const char *found = NULL;
  while (file && !found && fgets(line, LINE, file)) {
    line[strcspn(line, "\n")] = 0;
    if (!strncmp(line, key, length) && (line[length] == ' ' || !line[length])) found = line + length + (line[length] != 0);
  }
  if (file) fclose(file);
  return found;
}

static const char *text(Device d, const char *what, char *line) {
  char key[128];
  if (!d) snprintf(key, sizeof key, "%s", what);
  else if (part_of(d) < 0) snprintf(key, sizeof key, "%d %s", gpu_of(d), what);
  else snprintf(key, sizeof key, "%d.%d %s", gpu_of(d), part_of(d), what);
  return line_of(key, line);
}

static int number(Device d, const char *what, unsigned long long *value) {
  char line[LINE];
  const char *found = text(d, what, line);
  if (found) *value = strtoull(found, NULL, 10);
  return found != NULL;
}

/* What the call is told to return; it may never return. */
static Return told(Device d, const char *call) {
  char key[128], line[LINE];
  snprintf(key, sizeof key, "hang %s", call);
  while (line_of(key, line) || (d && text(d, key, line))) pause();
  snprintf(key, sizeof key, "fail %s", call);
  const char *found = line_of(key, line);
  if (!found && d) found = text(d, key, line);
  return found ? atoi(found) : 0;
}

#define AS_TOLD(d, call) do { Return code = told(d, call); if (code) return code; } while (0)

static Return give_text(Device d, const char *what, char *into, unsigned size) {
  char line[LINE];
  const char *found = text(d, what, line);
  if (!found) return NOT_SUPPORTED;
  snprintf(into, size, "%s", found);
  return 0;
}

static Return give_number(Device d, const char *what, unsigned *into) {
  unsigned long long value;
  if (!number(d, what, &value)) return NOT_SUPPORTED;
  *into = (unsigned)value;
  return 0;
}

Return nvmlInitWithFlags(unsigned flags) { (void)flags; return told(NULL, "Init"); }
Return nvmlInit_v2(void) { return told(NULL, "Init"); }
Return nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(Return code) {
  switch (code) {
    case 1: return "Uninitialized";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 16: return "GPU requires restart";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}

Return nvmlSystemGetDriverVersion(char *into, unsigned size) {
  AS_TOLD(NULL, "SystemGetDriverVersion");
  return give_text(NULL, "driver", into, size);
}

Return nvmlDeviceGetCount_v2(unsigned *count) {
  AS_TOLD(NULL, "DeviceGetCount");
  *count = 0;
  give_number(NULL, "gpus", count);
  return 0;
}

Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *found) {
  *found = device((int)index, -1);
  AS_TOLD(*found, "DeviceGetHandleByIndex");
  return 0;
}

Return nvmlDeviceGetName(Device d, char *into, unsigned size) {
  AS_TOLD(d, "DeviceGetName");
  return give_text(d, "name", into, size);
}

Return nvmlDeviceGetUUID(Device d, char *into, unsigned size) {
  AS_TOLD(d, "DeviceGetUUID");
  return give_text(d, "uuid", into, size);
}

Return nvmlDeviceGetMemoryInfo(Device d, Memory *memory) {
  unsigned long long reserved = 0;
  AS_TOLD(d, "DeviceGetMemoryInfo");
  if (!number(d, "total_mib", &memory->total) || !number(d, "used_mib", &memory->used)) return NOT_SUPPORTED;
  number(d, "reserved_mib", &reserved);
  memory->total *= MIB;
  memory->used = (memory->used + reserved) * MIB; /* as the first version of this call counts */
  memory->free = memory->total - memory->used;
  return 0;
}

#ifndef OLD
Return nvmlDeviceGetMemoryInfo_v2(Device d, Memory2 *memory) {
  AS_TOLD(d, "DeviceGetMemoryInfo");
  if (memory->version != (sizeof(Memory2) | 2 << 24)) return 25;
  if (!number(d, "total_mib", &memory->total) || !number(d, "used_mib", &memory->used)) return NOT_SUPPORTED;
  memory->reserved = 0;
  number(d, "reserved_mib", &memory->reserved);
  memory->total *= MIB, memory->used *= MIB, memory->reserved *= MIB;
  memory->free = memory->total - memory->used - memory->reserved;
  return 0;
}

Return nvmlDeviceGetTemperatureV(Device d, Temperature *heat) {
  AS_TOLD(d, "DeviceGetTemperature");
  if (heat->version != (sizeof(Temperature) | 1 << 24)) return 25;
  return give_number(d, "heat_c", (unsigned *)&heat->temperature);
}
#endif

Return nvmlDeviceGetUtilizationRates(Device d, Utilization *rates) {
  AS_TOLD(d, "DeviceGetUtilizationRates");
  rates->memory = 12;
  return give_number(d, "load", &rates->gpu);
}

Return nvmlDeviceGetTemperature(Device d, int sensor, unsigned *degrees) {
  (void)sensor;
  AS_TOLD(d, "DeviceGetTemperature");
  return give_number(d, "heat_c", degrees);
}

Return nvmlDeviceGetPowerUsage(Device d, unsigned *milliwatts) {
  AS_TOLD(d, "DeviceGetPowerUsage");
  return give_number(d, "power_mw", milliwatts);
}

Return nvmlDeviceGetEnforcedPowerLimit(Device d, unsigned *milliwatts) {
  AS_TOLD(d, "DeviceGetEnforcedPowerLimit");
  return give_number(d, "limit_mw", milliwatts);
}

Return nvmlDeviceGetMigMode(Device d, unsigned *now, unsigned *next) {
  unsigned places = 0;
  AS_TOLD(d, "DeviceGetMigMode");
  if (give_number(d, "mig", &places)) return NOT_SUPPORTED;
  *now = *next = places > 0;
  return 0;
}

Return nvmlDeviceGetMaxMigDeviceCount(Device d, unsigned *count) { return give_number(d, "mig", count); }

Return nvmlDeviceGetMigDeviceHandleByIndex(Device d, unsigned place, Device *found) {
  char line[LINE];
  *found = device(gpu_of(d), (int)place);
  return text(*found, "uuid", line) ? 0 : NOT_FOUND;
}

/* As the real one: asked without room it tells how many there are, and with too little that it is too little. */
static Return processes(Device d, const char *call, const char *what, unsigned *count, Process *found) {
  char line[LINE];
  AS_TOLD(d, call);
  const char *entry = text(d, what, line);
  if (!entry) return NOT_SUPPORTED;
  unsigned room = found ? *count : 0;
  for (*count = 0; *entry; ++*count) {
    char *rest;
    Process one = {.pid = strtoul(entry, &rest, 10)};
    one.used = *rest == ':' && rest[1] != '?' ? strtoull(rest + 1, NULL, 10) * MIB : ~0ULL;
    if (*count < room) found[*count] = one;
    entry += strcspn(entry, " ");
    entry += strspn(entry, " ");
  }
  return *count > room ? INSUFFICIENT_SIZE : 0;
}

#define PROCESSES(name, what)                                                       \
  Return nvml##name(Device d, unsigned *count, Process *found) {                    \
    return processes(d, "DeviceGetProcesses", what, count, found);                  \
  }
#ifdef OLD
PROCESSES(DeviceGetComputeRunningProcesses_v2, "computing")
PROCESSES(DeviceGetGraphicsRunningProcesses_v2, "drawing")
PROCESSES(DeviceGetMPSComputeRunningProcesses_v2, "sharing")
#else
PROCESSES(DeviceGetComputeRunningProcesses_v3, "computing")
PROCESSES(DeviceGetGraphicsRunningProcesses_v3, "drawing")
PROCESSES(DeviceGetMPSComputeRunningProcesses_v3, "sharing")
#endif
