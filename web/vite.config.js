import { defineConfig } from "vite";

/** Two pages: the dashboard, and the one where a Conductor client's user signs in. Both work at any path of the host. */
export default defineConfig({
  base: "/",
  build: {
    target: "es2022",
    rolldownOptions: { input: ["index.html", "client-login.html"] },
    chunkSizeWarningLimit: 600, // Firestore's SDK alone is larger than Vite's own limit
  },
});
